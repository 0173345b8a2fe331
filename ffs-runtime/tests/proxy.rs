//! What an ordinary action container does: OpenWhisk's contract, C-90 to C-92.

mod support;

use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;
use support::{Runtime, SENTINEL, Stream, init_body, runs};

const GREET: &str = "def main(args):\n    return {'greeting': 'Hello ' + args.get('name', 'stranger')}\n";

#[test]
fn an_action_is_initialized_once_and_run_many_times() {
    let runtime = Runtime::with_code(GREET);

    for name in ["Ada", "Grace"] {
        let answer = runtime.run(json!({"name": name}));
        assert_eq!(
            (answer.status, answer.body),
            (200, format!("{{\"greeting\": \"Hello {name}\"}}\n"))
        );
    }
    let again = runtime.init(GREET);
    assert_eq!(
        (again.status, again.error().as_str()),
        (403, "Cannot initialize the action more than once.")
    );
    assert_eq!(
        runtime.run(json!({})).json(),
        json!({"greeting": "Hello stranger"})
    );
}

#[test]
fn every_answer_is_marked_as_ours_and_has_a_length() {
    let runtime = Runtime::start();

    let before = runtime.run(json!({}));
    assert_eq!(
        (before.status, before.error().as_str()),
        (500, "no action defined yet: /init comes before /run")
    );
    let nowhere = runtime.post("/exec", &json!({}));
    assert_eq!(nowhere.status, 404);
    let get = runtime
        .send_raw(b"GET /run HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .answer();
    assert_eq!(get.status, 405);
    let no_code = runtime.post(
        "/init",
        &json!({"value": {"name": "a", "main": "main", "binary": false}}),
    );
    assert_eq!(
        (no_code.status, no_code.error().as_str()),
        (403, "Missing main/no code to execute.")
    );
    let good = runtime.init(GREET);
    assert_eq!(good.status, 200);

    for answer in [before, nowhere, get, no_code, good] {
        assert_eq!(answer.header("FFS-Runtime"), Some("1"), "{}", answer.head);
        assert_eq!(
            answer.header("Content-Type"),
            Some("application/json"),
            "{}",
            answer.head
        );
        assert_eq!(answer.header("Transfer-Encoding"), None, "{}", answer.head);
    }
}

#[test]
fn an_exception_is_the_applications_error() {
    let runtime = Runtime::with_code("def main(args):\n    raise ValueError('not today')\n");

    let answer = runtime.run(json!({}));
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"error": "not today"}))
    );
}

#[test]
fn a_result_is_an_object_or_an_array() {
    let runtime = Runtime::with_code("def main(args):\n    return args['answer']\n");

    for good in [
        json!({}),
        json!([]),
        json!([1, {"a": null}]),
        json!({"error": "mine"}),
    ] {
        let answer = runtime.run(json!({"answer": good}));
        assert_eq!((answer.status, answer.json()), (200, good));
    }
    for bad in [json!(3), json!("text"), json!(null), json!(true)] {
        let answer = runtime.run(json!({"answer": bad}));
        let expected = "The action did not return a dictionary or array.";
        assert_eq!((answer.status, answer.error().as_str()), (502, expected), "{bad}");
    }
}

#[test]
fn a_process_that_ends_is_answered_for() {
    let mut runtime =
        Runtime::with_code("import os\ndef main(args):\n    os.write(2, b'so long')\n    os._exit(3)\n");

    let answer = runtime.run(json!({}));
    assert_eq!((answer.status, answer.error().as_str()), (400, "command exited"));
    assert_eq!(runtime.written(Stream::Stdout), format!("{SENTINEL}\n"));
    assert_eq!(runtime.written(Stream::Stderr), format!("so long\n{SENTINEL}\n"));
    let after = runtime.run(json!({}));
    assert_eq!((after.status, after.error().as_str()), (500, "command exited"));
}

#[test]
fn a_process_that_breaks_the_protocol_is_ended() {
    for crime in [
        "sendall(b'\\xff' * 8)",
        "sendall(b'\\x02\\0\\0\\0{]')",
        "shutdown(socket.SHUT_RDWR)",
    ] {
        let code = format!(
            "import socket, sys, time\n\
             def main(args):\n\
             \x20   sys.modules['__main__'].wire.{crime}\n\
             \x20   time.sleep(1000)\n"
        );
        let runtime = Runtime::with_code(&code);
        let python = runtime.python();

        let answer = runtime.run(json!({}));

        assert_eq!(
            (answer.status, answer.error().as_str()),
            (400, "command exited"),
            "{crime}"
        );
        assert!(!runs(python.as_raw().into()), "{crime}");
    }
}

#[test]
fn code_that_does_not_load_is_a_sentence_with_a_line_and_both_sentinels() {
    let mut runtime = Runtime::start();

    let answer = runtime.init("import os\nos.write(1, b'loading\\n')\nimport no_such_module\n");

    let expected = "ModuleNotFoundError: No module named 'no_such_module' (app.py:3)";
    assert_eq!((answer.status, answer.error().as_str()), (502, expected));
    assert_eq!(runtime.written(Stream::Stdout), format!("loading\n{SENTINEL}\n"));
    assert_eq!(runtime.written(Stream::Stderr), format!("{SENTINEL}\n"));
    assert_eq!(runtime.run(json!({})).status, 500);
    assert_eq!(runtime.init(GREET).status, 403);
}

#[test]
fn an_interpreter_that_cannot_begin_is_quoted() {
    let runtime = Runtime::start_with(|command| {
        command.env("TEST_DEAD_ON_ARRIVAL", "1");
    });

    let answer = runtime.init(GREET);

    let expected = "the Python process ended (exit code 1): no such thing as a fixture";
    assert_eq!((answer.status, answer.error().as_str()), (502, expected));
}

#[test]
fn when_the_answer_comes_the_logs_are_complete() {
    let mut runtime = Runtime::with_code(
        "import os, subprocess, sys\n\
         def main(args):\n\
         \x20   print('one'); print('two\\nthree'); print('four', file=sys.stderr); print('')\n\
         \x20   os.write(1, b'raw\\n')\n\
         \x20   subprocess.run(['echo', 'from a process'])\n\
         \x20   os.write(2, b'no line end')\n\
         \x20   print('XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX')\n\
         \x20   return {}\n",
    );

    for _ in 0..3 {
        assert_eq!(runtime.run(json!({})).status, 200);
        let expected = format!("raw\nfrom a process\none\ntwo\nthree\n\n{SENTINEL}\n");
        assert_eq!(runtime.written(Stream::Stdout), expected);
        assert_eq!(
            runtime.written(Stream::Stderr),
            format!("no line end\nfour\n{SENTINEL}\n")
        );
    }
}

#[test]
fn the_code_sees_its_environment_and_not_the_runtimes_secrets() {
    let runtime = Runtime::start_with(|command| {
        command
            .env("__OW_API_HOST", "http://a=b=c")
            .env("FFS_TOKEN", "secret")
            .env("CUDA_VISIBLE_DEVICES", "MIG-1");
    });
    let code =
        "import os\ndef main(args):\n    return {name: os.environ.get(name) for name in args['names']}\n";
    let mut body = init_body(code);
    body["value"]["env"] = json!({"A": "text", "B": true, "C": 2.50, "D": null, "E": {"x": [1]}});
    assert_eq!(runtime.post("/init", &body).status, 200);

    let names = [
        "__OW_API_HOST",
        "FFS_TOKEN",
        "FFS_LISTEN",
        "CUDA_VISIBLE_DEVICES",
        "A",
        "B",
        "C",
        "D",
        "E",
    ];
    assert_eq!(
        runtime.run(json!({"names": names})).json(),
        json!({"__OW_API_HOST": "http://a=b=c", "FFS_TOKEN": null, "FFS_LISTEN": null,
            "CUDA_VISIBLE_DEVICES": "MIG-1", "A": "text", "B": "true", "C": "2.5", "D": "", "E": "{\"x\":[1]}"})
    );
}

#[test]
fn the_code_does_not_get_what_the_starter_left_open() {
    let runtime = Runtime::start_with(|command| {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", "exec 9</dev/null; exec \"$0\""])
            .arg(command.get_program());
        shell.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        *command = shell;
    });
    let code = "import os\ndef main(args):\n    return {'open': os.path.exists('/proc/self/fd/9')}\n";
    assert_eq!(runtime.init(code).status, 200);

    assert_eq!(runtime.run(json!({})).json(), json!({"open": false}));
}

#[test]
fn several_runs_are_under_way_at_once() {
    let runtime = Runtime::with_code(
        "import threading\nall_here = threading.Barrier(4)\ndef main(args):\n    all_here.wait(60)\n    return args\n",
    );

    let waiting: Vec<_> = (0..4)
        .map(|n| runtime.send("/run", format!(r#"{{"value":{{"n":{n}}}}}"#).as_bytes()))
        .collect();

    for (n, waiting) in waiting.into_iter().enumerate() {
        assert_eq!(waiting.answer().json(), json!({"n": n}));
    }
}

#[test]
fn one_connection_carries_many_requests() {
    let runtime = Runtime::with_code(GREET);
    let request = "POST /run HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    let last = "POST /run HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";

    let mut stream = runtime.send_raw(format!("{request}{request}{last}").as_bytes()).0;

    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).expect("three answers");
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
}

#[test]
fn build_and_profile_are_passed_on_after_init() {
    let mut runtime = Runtime::start();
    let build = json!({"function": "guest/f", "revision": "1-a", "example": {"x": [1.50, 2]}});
    assert_eq!(runtime.post("/ffs/build", &build).status, 500);
    assert_eq!(runtime.init(GREET).status, 200);

    let answer = runtime.post("/ffs/build", &build);
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"asked": "build", "request": build}))
    );
    let profile = json!({"kind": "1g.10gb", "example": {}, "min_runs": 3, "max_runs": 30, "budget_ms": 2000});
    let answer = runtime.post("/ffs/profile", &profile);
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"asked": "profile", "request": profile}))
    );

    let wrong = runtime.post("/ffs/profile", &json!({"kind": "huge", "example": {}}));
    assert_eq!(wrong.status, 400);
    assert!(
        wrong
            .error()
            .contains("\"huge\" is not valid: expected a name such as 1g.10gb"),
        "{}",
        wrong.error()
    );
    assert_eq!(
        runtime.written(Stream::Stdout),
        "",
        "they are no activations: no sentinels"
    );
}

#[test]
fn large_values_pass_and_too_large_ones_are_refused_unread() {
    let runtime = Runtime::with_code("def main(args):\n    return {'length': len(args['text'])}\n");

    let answer = runtime.run(json!({"text": "x".repeat(20 << 20)}));
    assert_eq!((answer.status, answer.json()), (200, json!({"length": 20 << 20})));

    let head = "POST /run HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\n";
    let answer = runtime.send_raw(head.as_bytes()).answer();
    assert_eq!(
        (answer.status, answer.error().contains("99999999999")),
        (413, true)
    );
    let mut chunked =
        b"POST /run HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_vec();
    let value = json!({"value": {"text": "chunked"}}).to_string();
    write!(chunked, "{:x}\r\n{value}\r\n0\r\n\r\n", value.len()).expect("memory");
    assert_eq!(runtime.send_raw(&chunked).answer().json(), json!({"length": 7}));
}

#[test]
fn bodies_that_are_not_what_they_should_be_are_refused_with_a_sentence() {
    let runtime = Runtime::start();
    let bad: [&[u8]; 12] = [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b"3",
        b"\"text\"",
        b"null",
        b"\xff\xfe{}",
        b"{\"value\":{}}trailing",
        b"{\"value\":\"\xc3\"}",
        b"{\"value\":{\"code\":1}}",
        &[b'['; 100_000],
    ];

    for body in bad {
        let answer = runtime.send("/init", body).answer();
        assert_eq!(answer.status, 400, "{:?}", String::from_utf8_lossy(body));
        assert!(answer.error().contains("/init"), "{}", answer.error());
    }
    assert_eq!(runtime.init(GREET).status, 200, "none of them was an init");
    for body in &bad[..10] {
        let answer = runtime.send("/run", body).answer();
        assert_eq!(answer.status, 400, "{:?}", String::from_utf8_lossy(body));
    }
    let deep = [
        b"{\"value\":{\"x\":".as_slice(),
        &[b'['; 200_000],
        &[b']'; 200_000],
        b"}}",
    ]
    .concat();
    let answer = runtime.send("/run", &deep).answer();
    assert!([200, 400].contains(&answer.status), "{}", answer.status);
}

#[test]
fn mutilated_requests_never_end_the_container() {
    let runtime = Runtime::with_code(GREET);
    let whole = json!({"value": {"name": "Ada", "n": [1, 2.5, null]}, "deadline": "1", "activation_id": "a"})
        .to_string();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };

    for _ in 0..300 {
        let mut body = whole.clone().into_bytes();
        for _ in 0..=random(4) {
            let at = random(body.len());
            match random(3) {
                0 => body[at] = random(256) as u8,
                1 => drop(body.remove(at)),
                _ => body.insert(at, b"{}[]\",:\\0"[random(9)]),
            }
        }
        let answer = runtime.send("/run", &body).answer();
        let sentence = answer.json();
        assert!(
            [200, 400].contains(&answer.status),
            "{}: {sentence}",
            String::from_utf8_lossy(&body)
        );
    }
    assert_eq!(
        runtime.run(json!({"name": "Ada"})).json(),
        json!({"greeting": "Hello Ada"})
    );
}

/// Two processes of the user's: one in the Python process's group, one that left it.
const OFFSPRING: &str = "import subprocess\n\
    def main(args):\n\
    \x20   start = lambda **how: subprocess.Popen(['sleep', '1000'], **how).pid\n\
    \x20   return {'pids': [start(), start(start_new_session=True)]}\n";

#[test]
fn the_end_of_the_lifeline_is_the_end_of_everything() {
    let mut runtime = Runtime::start_with(|command| {
        command.env("FFS_LIFELINE", "stdin");
    });
    assert_eq!(runtime.init(OFFSPRING).status, 200);
    let mut pids: Vec<i64> = runtime.run(json!({})).json()["pids"]
        .as_array()
        .expect("pids")
        .iter()
        .filter_map(Value::as_i64)
        .collect();
    pids.push(runtime.python().as_raw().into());
    assert!(pids.len() == 3 && pids.iter().all(|pid| runs(*pid)));

    drop(runtime.lifeline.take());

    assert_eq!(runtime.wait(), 1);
    assert!(!pids.into_iter().any(runs), "nothing is left running");
    assert!(!runtime.folder().join("proxy").exists(), "nor lying about");
}

#[test]
fn a_container_that_is_told_to_leave_finishes_first() {
    let mut runtime = Runtime::with_code(
        "import os, time\n\
         def main(args):\n\
         \x20   os.write(1, b'begun\\n')\n\
         \x20   while not os.path.exists(args['until']): time.sleep(0.01)\n\
         \x20   return {'finished': True}\n",
    );
    let until = runtime.folder().join("until");
    let deadline = u64::MAX / 2;
    let body = json!({"value": {"until": until}, "deadline": deadline.to_string()});
    let waiting = runtime.send("/run", body.to_string().as_bytes());
    runtime.written_with(Stream::Stdout, "begun");

    runtime.terminate();
    let refused = support::eventually(|| {
        Some(runtime.run(json!({"until": "/"}))).filter(|answer| answer.status == 503)
    });
    assert_eq!(refused.error(), "the container is shutting down");
    std::fs::write(&until, "").expect("written");

    assert_eq!(waiting.answer().json(), json!({"finished": true}));
    assert_eq!(runtime.wait(), 0);
    assert!(
        runtime
            .written(Stream::Stdout)
            .ends_with(&format!("{SENTINEL}\n"))
    );
}

#[test]
fn a_request_whose_time_is_over_does_not_keep_the_container() {
    let mut runtime = Runtime::with_code(
        "import os, time\ndef main(args):\n    os.write(1, b'begun\\n')\n    time.sleep(1000)\n",
    );
    let waiting = runtime.send("/run", br#"{"value":{},"deadline":"1"}"#);
    runtime.written_with(Stream::Stdout, "begun");

    runtime.terminate();

    assert_eq!(waiting.answer().status, 400);
    assert_eq!(runtime.wait(), 0);
}

#[test]
fn orphans_are_reaped() {
    let runtime = Runtime::with_code(
        "import subprocess\n\
         def main(args):\n\
         \x20   out = subprocess.run(['sh', '-c', 'sh -c \"exit 0\" >/dev/null & echo $!'], capture_output=True)\n\
         \x20   return {'pid': int(out.stdout)}\n",
    );

    let pid = runtime.run(json!({})).json()["pid"].as_i64().expect("a pid");

    support::eventually(|| (!runs(pid)).then_some(()));
}

#[test]
fn who_goes_away_does_not_take_the_logs_along() {
    let mut runtime = Runtime::with_code(
        "import os, time\n\
         def main(args):\n\
         \x20   os.write(1, b'begun\\n')\n\
         \x20   while not os.path.exists(args['until']): time.sleep(0.01)\n\
         \x20   print('finished all the same')\n\
         \x20   return {}\n",
    );
    let until = runtime.folder().join("until");
    let waiting = runtime.send("/run", json!({"value": {"until": until}}).to_string().as_bytes());
    runtime.written_with(Stream::Stdout, "begun");

    drop(waiting);
    std::fs::write(&until, "").expect("written");

    let text = runtime.written_with(Stream::Stdout, SENTINEL);
    assert_eq!(text, format!("finished all the same\n{SENTINEL}\n"));
}
