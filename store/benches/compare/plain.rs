//! A plain echo, and the frames of the small programs: a length, a number, a value; answers carry the number.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BufMut, BytesMut};
use store::{
    load::{Asked, Keys, Link, Protocol, Request, Verdict, value_of, value_shows},
    local::Process,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::VALUE;

/// Bytes of a number.
const NUMBER: usize = 8;

/// A whole request.
pub const REQUEST: usize = 4 + NUMBER + VALUE;

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub enum Answers {
    /// What was asked.
    Echo,
    /// Its number.
    Number,
}

/// The frames.
#[derive(Clone, Copy, Debug)]
pub struct Plain(pub Answers);

impl Plain {
    pub async fn connect(self, address: &str, keys: Keys) -> Result<Link<Self>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Link { stream, read: BytesMut::new(), protocol: self, keys })
    }
}

impl Protocol for Plain {
    fn ask(&mut self, id: u64, request: Request, out: &mut Vec<u8>) {
        out.put_u32((NUMBER + VALUE) as u32);
        out.put_u64(id);
        out.extend_from_slice(value_of(request.key, VALUE).as_bytes());
    }

    fn answer(
        &mut self,
        read: &mut BytesMut,
        _: &mut Vec<u8>,
        asked: &Asked,
    ) -> Result<Option<(u64, Verdict)>, String> {
        let Some(head) = read.first_chunk::<{ 4 + NUMBER }>() else { return Ok(None) };
        let (length, id) = ((&head[..4]).get_u32() as usize, (&head[4..]).get_u64());
        let Some(value) = read.get(4 + NUMBER..4 + length) else { return Ok(None) };
        let request = asked.request(id).ok_or_else(|| format!("answered {id}, which was not asked"))?;
        let right = match self.0 {
            Answers::Echo => value_shows(value, request.key, VALUE),
            Answers::Number => value.is_empty(),
        };
        let verdict = if right {
            Verdict::Right { fast: false, elsewhere: false }
        } else {
            Verdict::Wrong("not what was sent".to_owned())
        };
        read.advance(4 + length);
        Ok(Some((id, verdict)))
    }
}

/// A process of this program that is one of the small ones.
#[derive(Debug)]
pub struct Part {
    pub child: Process,
    pub address: String,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Part {
    /// Starts one of this program.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("part").args(arguments);
        Self::begin(command)
    }

    /// Starts it: it says where it listens.
    pub fn begin(mut command: Command) -> Result<Self> {
        let mut child = Process(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
        let mut stdout = BufReader::new(child.stdout.take().context("it has no output")?);
        let stdin = child.stdin.take().context("it has no input")?;
        let address = line(&mut stdout)?;
        Ok(Self { child, address, stdin, stdout })
    }

    /// Tells it a line.
    pub fn tell(&mut self, text: &str) -> Result<()> {
        writeln!(self.stdin, "{text}")?;
        Ok(self.stdin.flush()?)
    }

    /// The next line that it says.
    pub fn hear(&mut self) -> Result<String> {
        line(&mut self.stdout)
    }
}

fn line(from: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    ensure!(line.ends_with('\n'), "it has ended");
    Ok(line.trim_end().to_owned())
}

/// Listens, and says where.
pub async fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    Ok(listener)
}

/// Sends back what it gets.
pub async fn echo() -> Result<()> {
    let listener = listen().await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..read]).await.is_err() {
                    break;
                }
            }
        });
    }
}
