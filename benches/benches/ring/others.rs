//! What else carries 64 bytes to another process and back: iceoryx2, waited for by looking, and a pair of pipes, waited
//! for asleep.

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use std::hint::black_box;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Set for the other process: the name of its iceoryx2 services, or `pipe`.
pub(crate) const ROLE: &str = "RING_BENCH_OTHER";
pub(crate) const BYTES: usize = 64;
/// First byte of a payload that asks the other process to sleep for a batch, or to end.
const REST: u8 = 1;
const END: u8 = 2;
/// How long the other process leaves its CPU to what is measured beside it.
const RESTS: Duration = Duration::from_micros(100);

type Payload = [u8; BYTES];

struct Ports {
    out: Publisher<ipc::Service, Payload, ()>,
    back: Subscriber<ipc::Service, Payload, ()>,
    _node: Node<ipc::Service>,
}

impl Ports {
    fn new(out: &str, back: &str) -> Self {
        let node = NodeBuilder::new().create::<ipc::Service>().unwrap();
        let service = |name: &str| {
            let name = name.try_into().unwrap();
            let builder = node.service_builder(&name).publish_subscribe::<Payload>();
            builder.open_or_create().unwrap()
        };
        Self {
            out: service(out).publisher_builder().create().unwrap(),
            back: service(back).subscriber_builder().create().unwrap(),
            _node: node,
        }
    }

    fn send(&self, payload: Payload) -> usize {
        let sample = self.out.loan_uninit().unwrap();
        sample.write_payload(payload).send().unwrap()
    }

    fn recv(&self) -> Payload {
        loop {
            if let Some(sample) = self.back.receive().unwrap() {
                return *sample;
            }
            std::hint::spin_loop();
        }
    }
}

/// The other process.
pub(crate) fn answer(name: &str) {
    if name == "pipe" {
        let (mut from, mut to) = (std::io::stdin().lock(), std::io::stdout().lock());
        let mut payload = [0; BYTES];
        while from.read_exact(&mut payload).is_ok() {
            to.write_all(&payload).unwrap();
            to.flush().unwrap();
        }
        return;
    }
    let ports = Ports::new(&format!("{name}/back"), &format!("{name}/there"));
    loop {
        let payload = ports.recv();
        match payload[0] {
            REST => std::thread::sleep(RESTS),
            END => return,
            _ => {
                ports.send(payload);
            }
        }
    }
}

fn other(role: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command.spawn().unwrap()
}

pub(crate) struct Iceoryx {
    ports: Ports,
    child: Child,
}

impl Iceoryx {
    pub(crate) fn start() -> Self {
        let name = format!("ffs-bench-{}", std::process::id());
        let ports = Ports::new(&format!("{name}/there"), &format!("{name}/back"));
        let child = other(&name);
        let mut payload = [0; BYTES];
        payload[0] = REST;
        while ports.send(payload) == 0 {
            std::thread::sleep(RESTS); // nobody listens yet
        }
        Self { ports, child }
    }

    pub(crate) fn round_trip(&mut self, data: &Payload) -> Duration {
        let before = Instant::now();
        self.ports.send(*data);
        black_box(self.ports.recv());
        before.elapsed()
    }

    pub(crate) fn rest(&mut self) {
        self.ports.send([REST; BYTES]);
    }
}

impl Drop for Iceoryx {
    fn drop(&mut self) {
        self.ports.send([END; BYTES]);
        self.child.wait().unwrap();
    }
}

pub(crate) struct Pipe {
    to: Option<ChildStdin>,
    from: ChildStdout,
    child: Child,
}

impl Pipe {
    pub(crate) fn start() -> Self {
        let mut child = other("pipe");
        Self {
            to: child.stdin.take(),
            from: child.stdout.take().unwrap(),
            child,
        }
    }

    pub(crate) fn round_trip(&mut self, data: &Payload) -> Duration {
        let mut payload = [0; BYTES];
        let before = Instant::now();
        self.to.as_mut().unwrap().write_all(data).unwrap();
        self.from.read_exact(&mut payload).unwrap();
        black_box(payload);
        before.elapsed()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(self.to.take()); // the other process reads its end
        self.child.wait().unwrap();
    }
}
