//! Counts a key up by one, whoever else does so at the same time: `cargo run -p store --example counter -- 127.0.0.1:7001`.

use std::time::Duration;

use store::{
    api::{KeyType, Operation, Outcome, Value},
    client::Cluster,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let addresses: Vec<String> = std::env::args().skip(1).collect();
    let limit = Duration::from_secs(5);
    let mut cluster = Cluster::join("store", &addresses, limit, |event| eprintln!("{event}")).await?;
    let key = match cluster.directory().key_type {
        KeyType::Integer => KeyType::Integer.parse("0"),
        KeyType::String => KeyType::String.parse("counter"),
    };
    let key = key.expect("a key of that kind");
    let mut expected: Option<Value> = None;
    loop {
        let count: u64 = expected.as_deref().unwrap_or("0").parse()?;
        let new: Value = (count + 1).to_string().into();
        let swap = Operation::Cas { key: key.clone(), expected: expected.clone(), new: new.clone() };
        // an error that is not definite may mean that it counted: this program says so and does not count again
        let done = cluster.call(&swap, limit, |event| eprintln!("{event}")).await;
        let Outcome::NotSwapped { seen } = done.result?.outcome else {
            println!("{new}");
            return Ok(());
        };
        expected = seen;
    }
}
