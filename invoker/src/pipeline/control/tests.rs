use super::*;
use crate::pipeline::sample::state;
use tokio::io::{AsyncBufReadExt, BufReader};

const HEAD: LaneId = LaneId::HEAD;
const SECOND: LaneId = LaneId::new(1, 0);

#[tokio::test]
async fn a_lane_that_proves_who_it_is_is_heard_and_spoken_to() {
    let mut instance = Instance::listen();
    let mut lane = instance.connect().await;
    lane.say(&instance.hello(HEAD)).await;
    assert_eq!(instance.event().await, (HEAD, Heard::Hello));

    let run = InvokerMessage::State(state(1, Desired::Run));
    instance.control.send(HEAD, run.clone()).expect("connected");
    assert_eq!(lane.hear().await, Some(run));

    lane.say(&LaneMessage::Loaded {
        load_ms: Millis(1.5),
        resident_bytes: Bytes(7),
    })
    .await;
    lane.say(&LaneMessage::Turn { want: true, turn: 3 }).await;
    let loaded = Heard::Loaded {
        load_ms: Millis(1.5),
        resident_bytes: Bytes(7),
    };
    assert_eq!(instance.event().await, (HEAD, loaded));
    assert_eq!(
        instance.event().await,
        (HEAD, Heard::Turn { want: true, turn: 3 })
    );

    drop(lane);
    let because = "it closed the connection".to_owned();
    assert_eq!(instance.event().await, (HEAD, Heard::Closed { because }));
    let send = instance.control.send(HEAD, InvokerMessage::Turn { turn: 3 });
    assert_eq!(send, Err(SendError::NotConnected(HEAD)));
}

#[tokio::test]
async fn a_lane_that_joins_later_has_a_token_and_an_epoch_of_its_own() {
    const REPLICA: LaneId = LaneId::new(1, 1);
    let mut instance = Instance::listen();
    let hello = |token: &str, epoch| LaneMessage::Hello {
        lane: REPLICA,
        epoch,
        token: token.to_owned(),
    };
    let first = instance.control.expect(REPLICA, 4);
    for refused in [hello(&first, 1), hello("guess", 4)] {
        let mut stranger = instance.connect().await;
        stranger.say(&refused).await;
        assert_eq!(stranger.hear().await, None, "{refused:?}");
    }
    let mut lane = instance.connect().await;
    lane.say(&hello(&first, 4)).await;
    assert_eq!(instance.event().await, (REPLICA, Heard::Hello));
    let told = InvokerMessage::Assignment {
        epoch: 4,
        switch: false,
    };
    instance.control.send(REPLICA, told.clone()).expect("connected");
    assert_eq!(lane.hear().await, Some(told));
    let ready = TakenUp {
        epoch: 4,
        switched: false,
        error: None,
    };
    lane.say(&LaneMessage::Assignment(ready.clone())).await;
    assert_eq!(instance.event().await, (REPLICA, Heard::Assignment(ready)));

    drop(lane);
    assert!(matches!(instance.event().await, (REPLICA, Heard::Closed { .. })));
    let second = instance.control.expect(REPLICA, 6);
    let mut late = instance.connect().await;
    late.say(&hello(&first, 4)).await;
    assert_eq!(late.hear().await, None, "its time is over");
    let mut again = instance.connect().await;
    again.say(&hello(&second, 6)).await;
    assert_eq!(instance.event().await, (REPLICA, Heard::Hello));
}

#[tokio::test]
async fn a_stranger_is_closed_out_and_keeps_nobody_away() {
    let mut instance = Instance::listen();
    let LaneMessage::Hello { token, .. } = instance.hello(HEAD) else {
        unreachable!("hello")
    };
    let hello = |lane, epoch, token: &str| LaneMessage::Hello {
        lane,
        epoch,
        token: token.to_owned(),
    };
    for refused in [
        hello(HEAD, 1, "guess"),
        hello(SECOND, 1, &token),
        hello(HEAD, 2, &token),
        hello(LaneId::new(9, 9), 1, &token),
        LaneMessage::Turn { want: true, turn: 0 },
    ] {
        let mut stranger = instance.connect().await;
        stranger.say(&refused).await;
        assert_eq!(stranger.hear().await, None, "{refused:?}");
    }
    let mut lane = instance.connect().await;
    lane.say(&instance.hello(HEAD)).await;
    assert_eq!(instance.event().await, (HEAD, Heard::Hello));
}

#[tokio::test]
async fn a_lane_connects_once() {
    let mut instance = Instance::listen();
    let mut first = instance.connect().await;
    first.say(&instance.hello(HEAD)).await;
    assert_eq!(instance.event().await, (HEAD, Heard::Hello));

    let mut second = instance.connect().await;
    second.say(&instance.hello(HEAD)).await;
    assert_eq!(second.hear().await, None);

    drop(first);
    instance.event().await;
    let mut third = instance.connect().await;
    third.say(&instance.hello(HEAD)).await;
    assert_eq!(third.hear().await, None);
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection_and_says_why() {
    for (bytes, because) in [
        (b"{}\n".to_vec(), "it said what cannot be read"),
        (b"\xff\xfe\n".to_vec(), "it could not be read from"),
        (
            vec![b'x'; MAX_LINE + 2],
            "it sent a line of more than 65536 bytes",
        ),
        (b"[[[[[[[[[[\n".to_vec(), "it said what cannot be read"),
    ] {
        let mut instance = Instance::listen();
        let mut lane = instance.connect().await;
        lane.say(&instance.hello(HEAD)).await;
        assert_eq!(instance.event().await, (HEAD, Heard::Hello));
        // The connection may close before all is written.
        let _ = lane.stream.write_all(&bytes).await;
        let (_, Heard::Closed { because: said }) = instance.event().await else {
            panic!("not closed")
        };
        assert!(said.starts_with(because), "{said}");
    }
}

#[tokio::test]
async fn whoever_says_nothing_is_closed_out() {
    let instance = Instance::listen_with(Duration::from_millis(20));
    let mut silent = instance.connect().await;
    assert_eq!(silent.hear().await, None);
}

#[tokio::test]
async fn a_crowd_of_strangers_is_bounded() {
    let instance = Instance::listen();
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(instance.connect().await);
    }
    let mut closed = 0;
    for stranger in crowd.iter_mut().rev().take(30) {
        closed += usize::from(stranger.hear().await.is_none());
    }
    assert_eq!(closed, 30, "two lanes and eight more may wait");
}

#[tokio::test]
async fn a_lane_that_reads_nothing_is_given_up() {
    let mut instance = Instance::listen();
    let mut lane = instance.connect().await;
    lane.say(&instance.hello(HEAD)).await;
    assert_eq!(instance.event().await, (HEAD, Heard::Hello));
    let stuck = loop {
        let state = proto::ffs::state::StateDocument {
            lanes: Some(vec![HEAD; 5000]),
            ..state(1, Desired::Run)
        };
        match instance.control.send(HEAD, InvokerMessage::State(state)) {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(stuck, SendError::Stuck(HEAD));
    let because = "it did not read what it was sent".to_owned();
    assert_eq!(instance.event().await, (HEAD, Heard::Closed { because }));
}

#[tokio::test]
async fn giving_up_the_control_closes_every_lane() {
    let mut instance = Instance::listen();
    let mut lane = instance.connect().await;
    lane.say(&instance.hello(HEAD)).await;
    assert_eq!(instance.event().await, (HEAD, Heard::Hello));
    drop(instance.control);
    assert_eq!(lane.hear().await, None);
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_refused_with_the_reason() {
    let path = PathBuf::from(format!("/run/{}", "x".repeat(110)));
    let error = Control::listen(&path, None, 1, [HEAD]).expect_err("too long");
    assert!(
        error
            .to_string()
            .contains("has 115 bytes and a socket's may have 107"),
        "{error}"
    );
}

struct Instance {
    control: Control,
    events: mpsc::Receiver<LaneEvent>,
    directory: tempfile::TempDir,
}

impl Instance {
    fn listen() -> Self {
        Self::listen_with(HELLO_LIMIT)
    }

    fn listen_with(hello_limit: Duration) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("control");
        let listening = listen(&path, None, 1, [HEAD, SECOND], hello_limit);
        let (control, events) = listening.expect("listening");
        Self {
            control,
            events,
            directory,
        }
    }

    fn hello(&self, lane: LaneId) -> LaneMessage {
        LaneMessage::Hello {
            lane,
            epoch: 1,
            token: self.control.token(lane).expect("a lane of the instance"),
        }
    }

    async fn connect(&self) -> Connected {
        let path = self.directory.path().join("control");
        Connected {
            stream: BufReader::new(UnixStream::connect(path).await.expect("listening")),
        }
    }

    async fn event(&mut self) -> (LaneId, Heard) {
        let event = self.events.recv().await.expect("the control is there");
        (event.lane, event.heard)
    }
}

struct Connected {
    stream: BufReader<UnixStream>,
}

impl Connected {
    async fn say(&mut self, message: &LaneMessage) {
        let mut line = serde_json::to_vec(message).expect("it can be written");
        line.push(b'\n');
        self.stream.write_all(&line).await.expect("connected");
    }

    /// None: the connection is closed.
    async fn hear(&mut self) -> Option<InvokerMessage> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("a message")),
        }
    }
}
