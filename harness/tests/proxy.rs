//! The proxies do what their rules say, to the bytes of their link, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, future::Future, io, time::Duration};

use harness::proxy::{
    Conditions, Connect, Deed, Delay, FrameFault, Kind, Link, LinkCounters, Match, Network, Protocol, Rule,
    Strikes,
};
use store::{
    api::Ballot,
    core::{Message, message::GroupMessage},
    node::wire,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// Two nodes and two clients, and what listens as node 2.
struct World {
    network: Network,
    node: TcpListener,
}

impl World {
    async fn start() -> Self {
        let network = Network::start(&[1, 2], &[1, 2], Protocol::Bytes, 1).await.unwrap();
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        network.set_target(2, Some(node.local_addr().unwrap()));
        Self { network, node }
    }

    /// With a node that sends back what it gets.
    async fn echoing() -> Network {
        let Self { network, node } = Self::start().await;
        tokio::spawn(echo_all(node));
        network
    }

    /// A connection through the proxy: the dialer's end and the node's.
    async fn connect(&self, link: Link) -> (TcpStream, TcpStream) {
        let (dialer, node) = tokio::join!(dial(&self.network, link), soon(self.node.accept()));
        (dialer, node.unwrap().0)
    }
}

async fn echo_all(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        connections.spawn(async move {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await
        });
    }
}

async fn dial(network: &Network, link: Link) -> TcpStream {
    let stream = soon(TcpStream::connect(network.address(link))).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What must come to an end, on a busy machine too.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.expect("done before the deadline")
}

async fn round_trip(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, text);
    Ok(())
}

/// Lets what is going to happen happen: many round trips past every task of the proxy.
async fn meanwhile(network: &Network, open: Link) {
    let mut stream = dial(network, open).await;
    for _ in 0..200 {
        soon(round_trip(&mut stream, b"tick")).await.unwrap();
    }
}

fn counters(network: &Network, link: Link) -> LinkCounters {
    network.counters().into_iter().find(|counters| counters.link == link).unwrap()
}

async fn reset(stream: &mut TcpStream) {
    let error = soon(stream.read(&mut [0; 16])).await.expect_err("the connection is reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// Dials and is reset, which the dialer may learn before it learns that it is connected.
async fn dial_reset(network: &Network, link: Link) {
    match soon(TcpStream::connect(network.address(link))).await {
        Ok(mut stream) => reset(&mut stream).await,
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

fn rules<const N: usize>(rules: [(Link, Rule); N]) -> BTreeMap<Link, Rule> {
    BTreeMap::from(rules)
}

/// The numbers from `range` as bytes.
fn numbers(range: std::ops::Range<u64>) -> Vec<u8> {
    range.flat_map(u64::to_be_bytes).collect()
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let network = World::echoing().await;
    let mut stream = dial(&network, Link::client(1, 2)).await;
    soon(round_trip(&mut stream, b"hello")).await.unwrap();
    let (there, back) = (counters(&network, Link::client(1, 2)), counters(&network, Link::answers(2, 1)));
    assert_eq!((there.connections, there.bytes), (1, 5));
    assert_eq!((back.connections, back.bytes), (0, 5));
}

#[tokio::test]
async fn the_end_of_a_stream_passes_and_the_answer_still_comes() {
    let world = World::start().await;
    let (mut dialer, mut node) = world.connect(Link::client(1, 2)).await;
    dialer.write_all(b"question").await.unwrap();
    dialer.shutdown().await.unwrap();
    let mut question = String::new();
    soon(node.read_to_string(&mut question)).await.unwrap();
    node.write_all(b"answer").await.unwrap();
    drop(node);
    let mut answer = String::new();
    soon(dialer.read_to_string(&mut answer)).await.unwrap();
    assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
}

#[tokio::test]
async fn held_bytes_stay_and_pass_in_order_when_released() {
    let world = World::start().await;
    let (link, open) = (Link::between(1, 2), Link::client(1, 1));
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.network.set_target(1, Some(echo.local_addr().unwrap()));
    tokio::spawn(echo_all(echo));
    let (mut dialer, mut node) = world.connect(link).await;
    let sent = numbers(0..500_000);
    let expected = sent.clone();
    let writer = tokio::spawn(async move { dialer.write_all(&sent).await.map(|()| dialer) });

    let mut received = vec![0; 100_000];
    soon(node.read_exact(&mut received)).await.unwrap();
    for _ in 0..20 {
        let held = soon(world.network.switch(rules([(link, Rule::Hold)]))).await;
        assert!(held.requested <= held.effective);
        let passed = counters(&world.network, link).bytes;
        meanwhile(&world.network, open).await;
        assert_eq!(counters(&world.network, link).bytes, passed, "bytes passed a held link");
        soon(world.network.open()).await;
        let mut more = vec![0; 100_000];
        soon(node.read_exact(&mut more)).await.unwrap();
        received.append(&mut more);
    }
    drop(soon(writer).await.unwrap().unwrap());
    soon(node.read_to_end(&mut received)).await.unwrap();
    assert!(received == expected, "bytes were lost or out of order");
    assert!(counters(&world.network, link).held >= 20);
}

#[tokio::test]
async fn a_hold_of_one_direction_leaves_the_other() {
    let world = World::start().await;
    let (mut dialer, mut node) = world.connect(Link::between(1, 2)).await;
    let mut byte = [0];

    soon(world.network.switch(rules([(Link::between(2, 1), Rule::Hold)]))).await;
    node.write_all(b"b").await.unwrap();
    dialer.write_all(b"f").await.unwrap();
    soon(node.read_exact(&mut byte)).await.unwrap();
    assert_eq!(counters(&world.network, Link::between(2, 1)).bytes, 0);

    soon(world.network.switch(rules([(Link::between(1, 2), Rule::Hold)]))).await;
    dialer.write_all(b"f").await.unwrap();
    soon(dialer.read_exact(&mut byte)).await.unwrap();
    assert_eq!(&byte, b"b");
    assert_eq!(counters(&world.network, Link::between(1, 2)).bytes, 1);

    soon(world.network.open()).await;
    soon(node.read_exact(&mut byte)).await.unwrap();
}

#[tokio::test]
async fn a_new_connection_on_a_held_link_stays_silent_and_unknown_to_the_node() {
    let world = World::start().await;
    let (held, open) = (Link::client(1, 2), Link::client(2, 2));
    soon(world.network.switch(rules([(held, Rule::Hold)]))).await;
    let mut given_up = dial(&world.network, held).await;
    given_up.write_all(b"nobody").await.unwrap();
    drop(given_up);
    let mut patient = dial(&world.network, held).await;
    patient.write_all(b"patient").await.unwrap();

    let (first, mut node) = world.connect(open).await;
    drop(first);
    assert_eq!(soon(node.read(&mut [0])).await.unwrap(), 0, "the node's first connection is the open link's");

    soon(world.network.open()).await;
    let (mut node, _) = soon(world.node.accept()).await.unwrap();
    let mut text = [0; 7];
    soon(node.read_exact(&mut text)).await.unwrap();
    assert_eq!(&text, b"patient", "the dialer that gave up is never heard of");
    assert_eq!(counters(&world.network, held).held, 2);
}

#[tokio::test]
async fn severing_resets_both_ends_and_refuses_until_it_ends() {
    let world = World::start().await;
    let (severed, open) = (Link::client(1, 2), Link::client(2, 2));
    let (mut dialer, mut node) = world.connect(severed).await;
    let (mut other, mut other_node) = world.connect(open).await;

    soon(world.network.switch(rules([(severed, Rule::Sever)]))).await;
    reset(&mut dialer).await;
    reset(&mut node).await;
    dial_reset(&world.network, severed).await;
    other.write_all(b"x").await.unwrap();
    soon(other_node.read_exact(&mut [0])).await.unwrap();
    assert_eq!(counters(&world.network, severed).severed, 2);

    soon(world.network.open()).await;
    world.connect(severed).await;
}

#[tokio::test]
async fn a_severed_way_back_resets_only_when_something_would_travel() {
    let world = World::start().await;
    let (mut dialer, mut node) = world.connect(Link::between(1, 2)).await;
    soon(world.network.switch(rules([(Link::between(2, 1), Rule::Sever)]))).await;
    for _ in 0..10 {
        dialer.write_all(b"f").await.unwrap();
        soon(node.read_exact(&mut [0])).await.unwrap();
    }
    node.write_all(b"b").await.unwrap();
    reset(&mut dialer).await;
    reset(&mut node).await;
    assert_eq!(counters(&world.network, Link::between(2, 1)).bytes, 0);
}

#[tokio::test]
async fn a_dead_node_is_refused_and_found_again_at_its_new_address() {
    let World { network, node } = World::start().await;
    let link = Link::client(1, 2);
    network.set_target(2, None);
    dial_reset(&network, link).await;

    let old = node.local_addr().unwrap();
    drop(node);
    network.set_target(2, Some(old));
    dial_reset(&network, link).await;
    assert_eq!(counters(&network, link).refused, 2);

    let restarted = TcpListener::bind("127.0.0.1:0").await.unwrap();
    network.set_target(2, Some(restarted.local_addr().unwrap()));
    tokio::spawn(echo_all(restarted));
    soon(round_trip(&mut dial(&network, link).await, b"again")).await.unwrap();
}

#[tokio::test]
async fn a_death_is_noticed_only_when_its_direction_lets_it() {
    let world = World::start().await;
    let (mut dialer, node) = world.connect(Link::between(1, 2)).await;
    soon(world.network.switch(rules([(Link::between(2, 1), Rule::Hold)]))).await;
    node.set_zero_linger().unwrap();
    drop(node);
    // the node's kernel answers these with resets, which do not come back
    let mut other = dial(&world.network, Link::client(1, 2)).await;
    let (mut other_node, _) = soon(world.node.accept()).await.unwrap();
    for _ in 0..100 {
        dialer.write_all(b"into the void").await.unwrap();
        other.write_all(b"x").await.unwrap();
        soon(other_node.read_exact(&mut [0])).await.unwrap();
    }
    soon(world.network.open()).await;
    reset(&mut dialer).await;
}

#[tokio::test]
async fn a_slow_reader_blocks_nobody_else_and_loses_nothing() {
    let world = World::start().await;
    let (mut dialer, mut slow) = world.connect(Link::client(1, 2)).await;
    let sent = numbers(0..4_000_000);
    let expected = sent.clone();
    let writer = tokio::spawn(async move { dialer.write_all(&sent).await });
    let (mut other, mut other_node) = world.connect(Link::client(2, 2)).await;
    for _ in 0..1000 {
        other.write_all(b"x").await.unwrap();
        soon(other_node.read_exact(&mut [0])).await.unwrap();
    }
    assert!(!writer.is_finished(), "the writer feels that nobody reads");
    let mut received = Vec::new();
    soon(slow.read_to_end(&mut received)).await.unwrap();
    soon(writer).await.unwrap().unwrap();
    assert!(received == expected, "bytes were lost or out of order");
}

#[tokio::test]
async fn delayed_bytes_travel_as_long_as_said_in_order_and_so_does_the_end() {
    let world = World::start().await;
    let link = Link::between(1, 2);
    let (shortest, longest) = (Duration::from_millis(30), Duration::from_millis(60));
    soon(world.network.switch(BTreeMap::from([(link, Delay::Uniform { shortest, longest })]))).await;
    let (mut dialer, mut node) = world.connect(link).await;
    let sent = numbers(0..1_000_000);
    let expected = sent.clone();
    let start = tokio::time::Instant::now();
    node.write_all(b"answer").await.unwrap();
    soon(dialer.read_exact(&mut [0; 6])).await.unwrap();
    tokio::spawn(async move { dialer.write_all(&sent).await });
    let mut first = [0];
    soon(node.read_exact(&mut first)).await.unwrap();
    assert!(start.elapsed() >= shortest);
    let mut received = first.to_vec();
    soon(node.read_to_end(&mut received)).await.unwrap();
    assert!(received == expected, "bytes were lost or out of order");
}

#[tokio::test]
async fn a_hold_stops_bytes_that_travel() {
    let world = World::start().await;
    let link = Link::between(1, 2);
    let delay = Delay::Constant(Duration::from_millis(20));
    soon(world.network.switch(BTreeMap::from([(link, delay)]))).await;
    let (mut dialer, mut node) = world.connect(link).await;
    dialer.write_all(b"first").await.unwrap();
    soon(node.read_exact(&mut [0; 5])).await.unwrap();
    dialer.write_all(b"second").await.unwrap();
    tokio::task::yield_now().await;
    let held = Conditions { rule: Rule::Hold, ..delay.into() };
    soon(world.network.switch(BTreeMap::from([(link, held)]))).await;
    assert!(timeout(Duration::from_millis(60), node.read(&mut [0])).await.is_err(), "it passed a held link");
    assert_eq!(passed(&world.network, link), 5);
    soon(world.network.open()).await;
    let mut text = [0; 6];
    soon(node.read_exact(&mut text)).await.unwrap();
    assert_eq!(&text, b"second");
}

/// Keeps sending and receiving until the connection ends.
async fn chatter(mut stream: TcpStream) {
    while round_trip(&mut stream, b"chatter").await.is_ok() {}
}

#[tokio::test]
async fn a_switch_is_in_effect_on_every_connection_when_it_returns() {
    let network = World::echoing().await;
    let links = [Link::client(1, 2), Link::client(2, 2), Link::between(1, 2)];
    let mut talkers = JoinSet::new();
    for link in links.iter().cycle().take(90) {
        talkers.spawn(chatter(dial(&network, *link).await));
    }
    for turn in 0..60 {
        let open = links[turn % 3];
        let both = links.iter().flat_map(|link| [*link, link.backward()]);
        let mut held: BTreeMap<_, _> = both.map(|link| (link, Rule::Hold)).collect();
        held.remove(&open);
        held.remove(&open.backward());
        soon(network.switch(held.clone())).await;
        let others = || links.iter().filter(|link| **link != open).map(|link| passed(&network, *link));
        let (before, others_before) = (passed(&network, open), others().collect::<Vec<_>>());
        soon(async {
            while passed(&network, open) < before + 10_000 {
                // looking stops the proxy
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(others().collect::<Vec<_>>(), others_before, "bytes passed a held link");
    }
    soon(network.shutdown()).await.unwrap();
    while soon(talkers.join_next()).await.is_some() {}
}

#[tokio::test]
async fn a_proxy_that_panics_ends_and_its_shutdown_says_so() {
    let network = World::echoing().await;
    let link = Link::client(1, 2);
    let mut stream = dial(&network, link).await;
    soon(round_trip(&mut stream, b"fine")).await.unwrap();
    // no clock goes that far, and no workload can ask for it
    let beyond = Conditions { delays: vec![Delay::Constant(Duration::MAX)], ..Conditions::default() };
    soon(network.switch(BTreeMap::from([(link, beyond)]))).await;
    stream.write_all(b"x").await.unwrap();
    soon(network.ended()).await;
    let error = soon(network.shutdown()).await.unwrap_err().to_string();
    assert!(error.contains("the proxy's thread panicked: overflow"), "{error}");
    assert!(soon(network.shutdown()).await.is_ok(), "it is told once");
}

/// Bytes that passed on connections of `link`, both ways.
fn passed(network: &Network, link: Link) -> u64 {
    counters(network, link).bytes + counters(network, link.backward()).bytes
}

#[tokio::test]
async fn a_thousand_connections_are_switched_like_one() {
    let network = World::echoing().await;
    let link = Link::client(1, 2);
    let mut streams = Vec::new();
    for _ in 0..1000 {
        let mut stream = dial(&network, link).await;
        soon(round_trip(&mut stream, b"ready")).await.unwrap();
        streams.push(stream);
    }
    soon(network.switch(rules([(link, Rule::Hold)]))).await;
    for stream in &mut streams {
        stream.write_all(b"held").await.unwrap();
    }
    assert_eq!(counters(&network, link).bytes, 5000);
    soon(network.open()).await;
    for stream in &mut streams {
        let mut answer = [0; 4];
        soon(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"held");
    }
    soon(network.switch(rules([(link, Rule::Sever)]))).await;
    for stream in &mut streams {
        reset(stream).await;
    }
    assert_eq!(counters(&network, link).severed, 1000);
}

#[tokio::test]
async fn a_switch_that_nobody_waits_for_does_not_disturb_the_next() {
    let network = World::echoing().await;
    let link = Link::client(1, 2);
    let mut stream = dial(&network, link).await;
    soon(round_trip(&mut stream, b"ready")).await.unwrap();
    let mut abandoned = 0;
    for _ in 0..20 {
        let mut switch = Box::pin(network.switch(rules([(link, Rule::Hold)])));
        // the proxies' thread may have acknowledged it before this one looks: then there is nothing to abandon
        abandoned += usize::from(futures::poll!(&mut switch).is_pending());
        drop(switch);
        soon(network.open()).await;
        soon(round_trip(&mut stream, b"open")).await.unwrap();
    }
    assert!(abandoned > 0, "every switch was over at once");
    drop(stream);
    soon(network.switch(rules([(link, Rule::Sever)]))).await;
}

#[tokio::test]
async fn a_node_that_never_answers_a_dial_holds_up_no_switch() {
    let network = Network::start(&[1], &[1], Protocol::Frames, 1).await.unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let deaf = socket.listen(1).unwrap();
    let address = deaf.local_addr().unwrap();
    network.set_target(1, Some(address));
    // until the queue of the listener is full, and the kernel answers no more
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    let link = Link::client(1, 1);
    let mut stuck = dial(&network, link).await;
    stuck.write_all(b"x").await.unwrap();
    for rule in [Rule::Hold, Rule::Open, Rule::Silence] {
        soon(network.switch(rules([(link, rule)]))).await;
    }
    soon(network.switch(rules([(link, Rule::Sever)]))).await;
    reset(&mut stuck).await;
}

#[tokio::test]
async fn what_travels_for_long_takes_no_more_memory_than_it_may() {
    let world = World::start().await;
    let (mut dialer, _node) = world.connect(Link::client(1, 2)).await;
    let delay = Conditions::from(Delay::Constant(Duration::from_mins(10)));
    soon(world.network.switch(BTreeMap::from([(Link::client(1, 2), delay)]))).await;
    let (block, mut taken) = (vec![7; 64 << 10], 0);
    // full when nothing more is taken for a while: the pause only lets a proxy that takes too much go on for longer
    while let Ok(written) = timeout(Duration::from_millis(500), dialer.write(&block)).await {
        taken += written.unwrap();
        assert!(taken < 64 << 20, "the proxy keeps everything");
    }
    assert!(taken > 4 << 20, "{taken}");
    soon(world.network.switch(rules([(Link::client(1, 2), Rule::Sever)]))).await;
    reset_on_write(&mut dialer).await;
}

async fn reset_on_write(stream: &mut TcpStream) {
    let error = soon(stream.write_all(&[0; 64])).await.expect_err("the connection is reset");
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
}

#[tokio::test]
async fn a_refused_dialer_is_refused_by_the_kernel_and_let_in_again() {
    let network = World::echoing().await;
    let link = Link::client(1, 2);
    let address = network.address(link);
    for _ in 0..20 {
        soon(network.switch(BTreeMap::from([(link, Connect::Refuse)]))).await;
        let error = soon(TcpStream::connect(address)).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        soon(network.open()).await;
        soon(round_trip(&mut dial(&network, link).await, b"again")).await.unwrap();
    }
}

#[tokio::test]
async fn a_switch_right_after_the_start_misses_no_listener() {
    for _ in 0..50 {
        let network = Network::start(&[1], &[1], Protocol::Bytes, 1).await.unwrap();
        let link = Link::client(1, 1);
        soon(network.switch(BTreeMap::from([(link, Connect::Refuse)]))).await;
        let error = soon(TcpStream::connect(network.address(link))).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}

fn framed(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_be_bytes()[..], content].concat()
}

/// Sends an empty handshake, then 64 numbered frames; returns which of them the node gets when half are dropped.
async fn survivors(seed: u64, pieces: usize) -> Vec<u8> {
    let network = Network::start(&[1, 2], &[], Protocol::Frames, seed).await.unwrap();
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    network.set_target(2, Some(node.local_addr().unwrap()));
    let link = Link::between(1, 2);
    let (deed, strikes) = (Deed::Drop, Strikes::Chance(0.5));
    let fault = FrameFault { fault: 3, matching: Match::default(), strikes, deed };
    soon(network.switch(BTreeMap::from([(link, fault)]))).await;
    let (mut dialer, accepted) = tokio::join!(dial(&network, link), soon(node.accept()));
    let mut stream = framed(b"");
    (0..64).for_each(|number| stream.extend(framed(&[number])));
    for piece in stream.chunks(pieces) {
        dialer.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    drop(dialer);
    let mut received = Vec::new();
    soon(accepted.unwrap().0.read_to_end(&mut received)).await.unwrap();
    let counters = counters(&network, link);
    let frames = received.strip_prefix(&[0; 4]).expect("the handshake passes").chunks(5);
    assert_eq!((counters.frames, counters.dropped), (65, 64 - frames.len() as u64));
    frames.map(|frame| frame[4]).collect()
}

#[tokio::test]
async fn decisions_depend_on_the_seed_and_not_on_how_the_bytes_come() {
    let first = survivors(1, 1000).await;
    assert!((10..54).contains(&first.len()), "{first:?}");
    assert_eq!(first, survivors(1, 7).await);
    assert_ne!(first, survivors(2, 1000).await);
}

#[tokio::test]
async fn a_frame_is_seen_before_it_arrives() {
    let network = Network::start(&[1, 2], &[], Protocol::Frames, 1).await.unwrap();
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    network.set_target(2, Some(node.local_addr().unwrap()));
    let link = Link::between(1, 2);
    let (mut dialer, accepted) = tokio::join!(dial(&network, link), soon(node.accept()));
    let mut received = accepted.unwrap().0;
    let ballot = |number| Ballot { number, ..Ballot::BOTTOM };
    let release = |number| {
        let message = GroupMessage::LeaseRelease { ballot: ballot(number) };
        framed(&wire::encode(&Message::Group { partition: 3, message }))
    };
    let matching = Match { min_ballot: Some(2), partition: Some(3), ..Match::kind(Kind::LeaseRelease) };
    let seen = soon(network.watch(&[link], matching.clone(), 2)).await;
    let never = soon(network.watch(&[link], Match { partition: Some(4), ..matching }, 1)).await;
    // the look-out outlives a switch, and a held frame is not seen yet
    soon(network.switch(rules([(link, Rule::Hold)]))).await;
    dialer.write_all(&[framed(b"hello"), release(1), release(2), release(7)].concat()).await.unwrap();
    let mut seen = Box::pin(seen);
    assert!(futures::poll!(&mut seen).is_pending());
    let opened = soon(network.open()).await;
    let sighting = soon(seen).await.expect("the network is there");
    assert_eq!(sighting.seen.and_then(|seen| seen.ballot), Some(ballot(7)));
    assert!(sighting.at >= opened.requested);
    let mut all = vec![0; 4 + 5];
    soon(received.read_exact(&mut all)).await.unwrap();
    assert!(futures::poll!(Box::pin(never)).is_pending());
}

#[tokio::test]
async fn frames_that_are_looked_for_on_several_links_count_together() {
    let network = Network::start(&[1, 2], &[], Protocol::Frames, 1).await.unwrap();
    let nodes =
        [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    for (node, listener) in (1..).zip(&nodes) {
        network.set_target(node, Some(listener.local_addr().unwrap()));
    }
    let links = [Link::between(1, 2), Link::between(2, 1)];
    let (mut there, to_second) = tokio::join!(dial(&network, links[0]), soon(nodes[1].accept()));
    let (mut back, to_first) = tokio::join!(dial(&network, links[1]), soon(nodes[0].accept()));
    let mut received = [to_second.unwrap().0, to_first.unwrap().0];
    let release = framed(&wire::encode(&Message::Group {
        partition: 3,
        message: GroupMessage::LeaseRelease { ballot: Ballot::BOTTOM },
    }));
    let mut third = Box::pin(soon(network.watch(&links, Match::kind(Kind::LeaseRelease), 3)).await);
    let mut fifth = Box::pin(soon(network.watch(&links, Match::kind(Kind::LeaseRelease), 5)).await);
    let hello = framed(b"hello");
    let mut arrived = vec![0; hello.len() + 2 * release.len()];
    there.write_all(&[hello.clone(), release.clone(), release.clone()].concat()).await.unwrap();
    soon(received[0].read_exact(&mut arrived)).await.unwrap();
    assert!(futures::poll!(&mut third).is_pending(), "two, on one link");
    back.write_all(&[hello, release.clone(), release].concat()).await.unwrap();
    soon(received[1].read_exact(&mut arrived)).await.unwrap();
    soon(third).await.expect("the third is the first on the other link");
    assert!(futures::poll!(&mut fifth).is_pending(), "four in all");
}

#[tokio::test]
async fn a_frame_that_is_held_lets_others_pass_and_comes_when_the_fault_ends() {
    let network = Network::start(&[1], &[1], Protocol::Frames, 1).await.unwrap();
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    network.set_target(1, Some(node.local_addr().unwrap()));
    let link = Link::client(1, 1);
    let (mut dialer, accepted) = tokio::join!(dial(&network, link), soon(node.accept()));
    let mut received = accepted.unwrap().0;
    let fault =
        |fault, nth, deed| FrameFault { fault, matching: Match::default(), strikes: Strikes::Nth(nth), deed };
    let mut both = Conditions::from(fault(1, 2, Deed::Hold));
    both += fault(2, 3, Deed::Duplicate).into();
    soon(network.switch(BTreeMap::from([(link, both)]))).await;
    dialer.write_all(&[framed(b"hello"), framed(b"1"), framed(b"2")].concat()).await.unwrap();
    dialer.write_all(&[framed(b"3"), framed(b"4")].concat()).await.unwrap();
    let mut expect = async |contents: &[&[u8]]| {
        for content in contents {
            let mut frame = vec![0; 4 + content.len()];
            soon(received.read_exact(&mut frame)).await.unwrap();
            assert_eq!(frame, framed(content));
        }
    };
    // the second is held, so that it never was the other fault's: that counts 1, 3, 4
    expect(&[b"hello", b"1", b"3", b"4", b"4"]).await;
    // the other one ends, and its end releases nothing
    soon(network.switch(BTreeMap::from([(link, fault(1, 2, Deed::Hold))]))).await;
    dialer.write_all(&framed(b"5")).await.unwrap();
    expect(&[b"5"]).await;
    soon(network.open()).await;
    expect(&[b"2"]).await;
    let counters = counters(&network, link);
    assert_eq!((counters.held, counters.duplicated, counters.frames), (1, 1, 6));
}

#[tokio::test]
async fn behind_a_frame_that_was_cut_off_nothing_follows() {
    for deed in [Deed::Hold, Deed::Reorder { at_most: Duration::from_mins(1) }] {
        let network = Network::start(&[1], &[1], Protocol::Frames, 1).await.unwrap();
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        network.set_target(1, Some(node.local_addr().unwrap()));
        let link = Link::client(1, 1);
        let (mut dialer, accepted) = tokio::join!(dial(&network, link), soon(node.accept()));
        let mut node_end = accepted.unwrap().0;
        let fault = FrameFault { fault: 1, matching: Match::default(), strikes: Strikes::Nth(1), deed };
        soon(network.switch(BTreeMap::from([(link, fault)]))).await;
        let long = framed(&[7; 10_000]);
        let (part, mut received) = (&long[..9000], vec![0; 4 + 9000]);
        // the first is kept, and of the next only a part comes
        dialer.write_all(&[&framed(b""), &framed(b"kept"), part].concat()).await.unwrap();
        soon(node_end.read_exact(&mut received)).await.unwrap();
        assert_eq!(received, [&framed(b""), part].concat());
        drop(dialer);
        soon(network.open()).await;
        let mut rest = Vec::new();
        soon(node_end.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest, b"", "{deed:?}");
    }
}
