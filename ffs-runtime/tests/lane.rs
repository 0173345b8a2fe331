//! What a container does as a lane of a pipeline: the control socket, and the head's `/init` and `/run`.

mod support;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use support::{Instance, SENTINEL, Stream, eventually, init_body};

const ECHO: &str = "def main(args):\n    print('said', args.get('n'))\n    return args\n";
const WAIT: &str = "import os, time\n\
    def main(args):\n\
    \x20   os.write(1, b'begun\\n')\n\
    \x20   while not os.path.exists(args['until']): time.sleep(0.01)\n\
    \x20   return {'finished': True}\n";
const SECOND: &str = "lane s1l0 (components cls, cls2) on slice MIG-2";

#[test]
fn a_lane_loads_its_components_when_its_limits_are_in_force() {
    let instance = Instance::new("import os\nos.write(1, b'imported\\n')\n");

    let (mut lane, mut control) = instance.start("s1l0");

    assert_eq!(
        control.hear(),
        json!({"type": "hello", "lane": "s1l0", "epoch": 3, "token": "secret"})
    );
    assert_eq!(
        lane.written_with(Stream::Stdout, "imported\n"),
        "imported\n",
        "imports come before the limits"
    );
    control.state(3, "run");
    assert_eq!(
        control.hear(),
        json!({"type": "loaded", "load_ms": 12.5, "resident_bytes": 1 << 20})
    );
}

#[test]
fn the_head_answers_init_when_its_components_are_loaded() {
    let instance = Instance::new(ECHO);
    let (head, mut control) = instance.start("s0l0");
    assert_eq!(control.hear()["lane"], "s0l0");

    let init = head.send("/init", init_body(ECHO).to_string().as_bytes());
    let early = head.run(json!({}));
    assert_eq!(
        early.status, 500,
        "it may not serve before it may load: {}",
        early.body
    );
    control.state(3, "run");

    assert_eq!(control.hear()["type"], "loaded");
    assert_eq!(init.answer().status, 200);
    let answer = head.run(json!({"n": 1}));
    assert_eq!(answer.json(), json!({"n": 1}));
    let timing: Value = serde_json::from_str(answer.header("FFS-Timing").expect("a header")).expect("JSON");
    let lanes = json!([{"id": "s0l0", "queue_ms": 0.25, "exec_ms": 1.5}]);
    assert_eq!(timing, json!({"lanes": lanes, "transfer_ms": 0.125}));
}

#[test]
fn a_head_may_be_told_to_run_before_it_is_initialized() {
    let instance = Instance::new(ECHO);
    let (head, mut control) = instance.start("s0l0");
    assert_eq!(control.hear()["type"], "hello");

    control.state(3, "run");
    assert_eq!(head.init(ECHO).status, 200);

    assert_eq!(control.hear()["type"], "loaded");
}

#[test]
fn the_logs_of_parallel_requests_are_whole_and_named() {
    let code = "import os, threading\n\
        here = threading.Barrier(3)\n\
        def main(args):\n\
        \x20   here.wait(60)\n\
        \x20   for i in range(20): print(args['n'], i)\n\
        \x20   here.wait(60)\n\
        \x20   return {}\n";
    let instance = Instance::new(code);
    let (mut head, mut control) = instance.start("s0l0");
    let init = head.send("/init", init_body(code).to_string().as_bytes());
    control.run();
    assert_eq!(init.answer().status, 200);

    let request = |n: i32| json!({"value": {"n": n}, "activation_id": format!("{n:032x}")}).to_string();
    let waiting: Vec<_> = (0..3).map(|n| head.send("/run", request(n).as_bytes())).collect();
    for waiting in waiting {
        assert_eq!(waiting.answer().status, 200);
    }

    let text = head.written(Stream::Stdout);
    let mut blocks: Vec<&str> = text.split_inclusive(SENTINEL).collect();
    let last = blocks.pop().expect("the id of the last block");
    let mut ids = vec![];
    for (at, block) in blocks.iter().enumerate() {
        let lines: Vec<&str> = block.lines().skip(usize::from(at > 0)).collect();
        let n = lines[0].split(' ').next().expect("a number");
        let expected: Vec<_> = (0..20)
            .map(|i| format!("{n} {i}"))
            .chain([SENTINEL.to_owned()])
            .collect();
        assert_eq!(lines, expected);
        let next = blocks.get(at + 1).unwrap_or(&last);
        assert_eq!(
            next.lines().next(),
            Some(format!(" {:032x}", n.parse::<i32>().expect("a number")).as_str())
        );
        ids.push(n);
    }
    ids.sort_unstable();
    assert_eq!(ids, ["0", "1", "2"]);
    assert_eq!(head.written(Stream::Stderr).matches(SENTINEL).count(), 3);
}

#[test]
fn raw_output_of_the_only_request_is_in_its_block() {
    let code = "import os\ndef main(args):\n    os.write(1, b'raw\\n')\n    print('cooked')\n    return {}\n";
    let instance = Instance::new(code);
    let (mut head, mut control) = instance.start("s0l0");
    let init = head.send("/init", init_body(code).to_string().as_bytes());
    control.run();
    assert_eq!(init.answer().status, 200);

    assert_eq!(head.run(json!({})).status, 200);

    assert_eq!(
        head.written(Stream::Stdout),
        format!("raw\ncooked\n{SENTINEL} {}\n", "0".repeat(32))
    );
}

#[test]
fn only_the_head_answers_requests() {
    let instance = Instance::new(ECHO);
    let (second, mut control) = instance.start("s1l0");
    control.run();

    for answer in [second.init(ECHO), second.run(json!({}))] {
        let expected = format!("{SECOND} does not answer /init or /run; the head, lane s0l0, does");
        assert_eq!((answer.status, answer.error()), (403, expected));
    }
    let build = json!({"function": "f", "revision": "1", "example": {}});
    assert_eq!(second.post("/ffs/build", &build).status, 403);
}

#[test]
fn code_that_does_not_load_fails_the_lane_with_the_authors_line() {
    let instance = Instance::new("def main(args):\n    return }\n");
    let (mut lane, mut control) = instance.start("s1l0");

    assert_eq!(control.hear()["type"], "hello");
    let failed = control.hear();
    assert_eq!(
        (&failed["type"], &failed["at"]),
        (&json!("failed"), &json!("app.py:2"))
    );
    assert!(
        failed["sentence"]
            .as_str()
            .expect("text")
            .starts_with("SyntaxError: "),
        "{failed}"
    );
    assert!(control.is_over());
    drop(control);
    assert_eq!(lane.wait(), 1);
}

#[test]
fn a_head_whose_code_does_not_load_answers_first() {
    let instance = Instance::new("");
    let (mut head, mut control) = instance.start("s0l0");

    let answer = head.init("raise KeyError('gone')\n");

    assert_eq!(
        (answer.status, answer.error().as_str()),
        (502, "KeyError: 'gone' (app.py:1)")
    );
    assert_eq!(control.hear()["type"], "hello");
    assert_eq!(
        control.hear(),
        json!({"type": "failed", "sentence": "KeyError: 'gone'", "at": "app.py:1"})
    );
    drop(control);
    assert_eq!(head.wait(), 1);
}

#[test]
fn components_that_do_not_load_fail_the_lane() {
    let code = "cannot_load = 'no weights'\n";
    let instance = Instance::new(code);
    let (mut lane, mut control) = instance.start("s1l0");
    assert_eq!(control.hear()["type"], "hello");
    control.state(3, "run");
    let sentence = format!("{SECOND}: no weights");
    assert_eq!(
        control.hear(),
        json!({"type": "failed", "sentence": sentence, "at": "app.py:1"})
    );
    drop(control);
    assert_eq!(lane.wait(), 1);

    let (head, mut control) = instance.start("s0l0");
    let init = head.send("/init", init_body(code).to_string().as_bytes());
    assert_eq!(control.hear()["type"], "hello");
    control.state(3, "run");
    let answer = init.answer();
    let expected = "lane s0l0 (components seg, seg2) on slice MIG-1: no weights (app.py:1)";
    assert_eq!((answer.status, answer.error().as_str()), (502, expected));
}

#[test]
fn a_lane_whose_process_is_killed_says_so() {
    let instance = Instance::new(ECHO);
    let (mut lane, mut control) = instance.start("s1l0");
    control.run();

    kill(lane.python(), Signal::SIGKILL).expect("it runs");

    let sentence = format!("{SECOND}: the Python process ended (signal 9)");
    assert_eq!(control.hear(), json!({"type": "failed", "sentence": sentence}));
    assert!(control.is_over());
    drop(control);
    assert_eq!(lane.wait(), 1);
}

#[test]
fn an_interpreter_that_cannot_begin_fails_the_lane() {
    let instance = Instance::new(ECHO);
    let _lane = instance.start_with("s1l0", |command| {
        command.env("TEST_DEAD_ON_ARRIVAL", "1");
    });
    let mut control = instance.accept();

    assert_eq!(
        control.hear()["type"],
        "hello",
        "even then it says first who it is"
    );
    let sentence = format!("{SECOND}: the Python process ended (exit code 1): no such thing as a fixture");
    assert_eq!(control.hear(), json!({"type": "failed", "sentence": sentence}));
}

#[test]
fn requests_in_a_head_whose_process_is_killed_are_answered() {
    let instance = Instance::new(WAIT);
    let (mut head, mut control) = instance.start("s0l0");
    let init = head.send("/init", init_body(WAIT).to_string().as_bytes());
    control.run();
    assert_eq!(init.answer().status, 200);
    let waiting: Vec<_> = (0..2)
        .map(|_| head.send("/run", br#"{"value":{"until":"/nowhere"}}"#))
        .collect();
    head.written_with(Stream::Stdout, "begun");

    kill(head.python(), Signal::SIGKILL).expect("it runs");

    let sentence = "lane s0l0 (components seg, seg2) on slice MIG-1: the Python process ended (signal 9)";
    for waiting in waiting {
        let answer = waiting.answer();
        assert_eq!((answer.status, answer.error().as_str()), (502, sentence));
    }
    assert_eq!(control.hear(), json!({"type": "failed", "sentence": sentence}));
    drop(control);
    assert_eq!(head.wait(), 1);
    assert_eq!(head.written(Stream::Stderr).matches(SENTINEL).count(), 2);
}

#[test]
fn without_its_invoker_a_lane_poisons_its_rings_and_ends() {
    let instance = Instance::new(ECHO);
    let (mut lane, mut control) = instance.start("s1l0");
    control.run();
    let python = lane.python().as_raw();

    drop(control);

    assert_eq!(lane.wait(), 1);
    assert_eq!(lane.written(Stream::Stdout), "poisoned: the invoker is gone\n");
    assert!(!support::runs(python.into()));
}

#[test]
fn a_lane_that_was_silent_too_long_comes_again() {
    let instance =
        Instance::new("import os, time\nwhile not os.path.exists(os.environ['UNTIL']): time.sleep(0.01)\n");
    let until = instance.layer.path().join("until");
    let mut lane = instance.start_with("s1l0", |command| {
        command.env("UNTIL", &until);
    });
    drop(instance.accept());

    let mut control = instance.accept();
    std::fs::write(&until, "").expect("written");
    assert_eq!(control.hear()["type"], "hello");

    drop(control);
    assert_eq!(lane.wait(), 1, "who has said hello once does not come again");
}

#[test]
fn a_lane_whose_invoker_goes_before_it_could_say_hello_ends() {
    let instance = Instance::new("import time\ntime.sleep(1000)\n");
    let (mut lane, control) = instance.start("s1l0");
    let python = lane.python().as_raw();

    let layer = instance.into_layer();
    drop(control);

    assert_eq!(lane.wait(), 1);
    assert!(!support::runs(python.into()));
    drop(layer);
}

#[test]
fn states_and_turns_pass_both_ways() {
    let instance = Instance::new(ECHO);
    let (_lane, mut control) = instance.start("s1l0");
    control.run();

    for (epoch, desired) in [(4, "evict"), (5, "resume"), (6, "run")] {
        control.state(epoch, desired);
        assert_eq!(
            control.hear(),
            json!({"type": "state", "epoch": epoch, "reached": desired})
        );
    }
    control.say(json!({"type": "turn", "turn": 9}));
    assert_eq!(control.hear(), json!({"type": "turn", "want": false, "turn": 9}));
}

#[test]
fn states_of_other_lanes_old_states_and_unknown_messages_are_passed_over() {
    let instance = Instance::new(ECHO);
    let (_lane, mut control) = instance.start("s1l0");
    control.run();
    let state = |epoch, lanes| json!({"type": "state", "schema": "ffs.state/1", "epoch": epoch, "desired": "evict", "lanes": lanes, "new": 1});

    control.say(state(9, json!(["s0l0"])));
    control.say(state(2, json!(["s1l0"])));
    control.say(json!({"type": "applause", "volume": 11}));
    control.say(state(7, json!(["s0l0", "s1l0"])));

    assert_eq!(
        control.hear(),
        json!({"type": "state", "epoch": 7, "reached": "evict"})
    );
}

#[test]
fn an_invoker_that_speaks_nonsense_is_quoted() {
    for (said, quoted) in [
        (
            b"{\"type\":\"state\",\"epoch\":\"two\"}\n".to_vec(),
            "which cannot be read: ",
        ),
        (b"\xff\n".to_vec(), "which cannot be read: "),
        (
            vec![b' '; 70_000],
            "a line on the control socket is longer than 65536 bytes",
        ),
    ] {
        let instance = Instance::new(ECHO);
        let (mut lane, mut control) = instance.start("s1l0");
        control.run();
        control.say_raw(&said);
        let failed = control.hear();
        let sentence = failed["sentence"].as_str().expect("a sentence");
        assert!(
            sentence.starts_with(SECOND) && sentence.contains(quoted),
            "{sentence}"
        );
        drop(control);
        assert_eq!(lane.wait(), 1);
    }
}

#[test]
fn a_drained_head_finishes_takes_nothing_new_and_waits_to_be_stopped() {
    let instance = Instance::new(WAIT);
    let (mut head, mut control) = instance.start("s0l0");
    let init = head.send("/init", init_body(WAIT).to_string().as_bytes());
    control.run();
    assert_eq!(init.answer().status, 200);
    let until = head.folder().join("until");
    let waiting = head.send("/run", json!({"value": {"until": until}}).to_string().as_bytes());
    eventually(|| (head.run(json!({"until": "/"})).status == 200).then_some(()));

    control.state(4, "drain");
    eventually(|| (head.run(json!({"until": "/"})).status == 503).then_some(()));
    std::fs::write(&until, "").expect("written");

    assert_eq!(
        control.hear(),
        json!({"type": "state", "epoch": 4, "reached": "drain"})
    );
    assert_eq!(
        waiting.answer().json(),
        json!({"finished": true}),
        "answered before it says so"
    );
    control.state(5, "stop");
    assert_eq!(
        control.hear(),
        json!({"type": "state", "epoch": 5, "reached": "stop"})
    );
    assert_eq!(head.wait(), 0);
    assert!(control.is_over());
}

#[test]
fn a_drained_lane_still_serves_the_others_until_all_are_drained() {
    let instance = Instance::new(ECHO);
    let (mut lane, mut control) = instance.start("s1l0");
    control.run();
    control.state(4, "drain");
    assert_eq!(
        control.hear(),
        json!({"type": "state", "epoch": 4, "reached": "drain"})
    );

    control.say(json!({"type": "turn", "turn": 9}));
    assert_eq!(control.hear()["turn"], 9, "it is still there");

    drop(control);
    assert_eq!(lane.wait(), 0);
}

#[test]
fn a_drained_lane_whose_time_is_over_ends() {
    let instance = Instance::new(ECHO);
    let (mut lane, mut control) = instance.start("s1l0");
    control.run();
    control.say(
        json!({"type": "state", "schema": "ffs.state/1", "epoch": 4, "desired": "drain", "deadline_ms": 1.5}),
    );
    assert_eq!(lane.wait(), 0);
}

#[test]
fn a_lane_that_is_stopped_or_terminated_ends_in_peace() {
    let instance = Instance::new(ECHO);
    let (mut lane, mut control) = instance.start("s1l0");
    control.run();
    control.state(4, "stop");
    assert_eq!(
        control.hear(),
        json!({"type": "state", "epoch": 4, "reached": "stop"})
    );
    assert_eq!(lane.wait(), 0);

    let (mut lane, mut control) = instance.start("s1l0");
    control.run();
    lane.terminate();
    assert_eq!(
        control.hear(),
        json!({"type": "state", "epoch": 3, "reached": "drain"})
    );
    assert_eq!(lane.wait(), 0);

    let (mut head, mut control) = instance.start("s0l0");
    assert_eq!(control.hear()["type"], "hello");
    control.state(4, "stop");
    assert_eq!(head.wait(), 0, "it had nothing to finish yet");
}
