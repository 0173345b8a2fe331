//! A Docker engine of a test's own, so that it can be taken away. It ends with the process that started it,
//! also if that is killed, and leaves nothing. It takes requests for NVIDIA's devices, and has none to bring in.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the engine may take to start or to end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Docker {
    folder: PathBuf,
    bridge: String,
    /// A shell; see `containerd`.
    keeper: Child,
    /// A shell whose standard input holds dockerd alive.
    dockerd: Option<Child>,
}

impl Docker {
    /// An engine with these images of the other one.
    pub(crate) fn start(images: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("dockerd-")
            .tempdir()
            .unwrap()
            .keep();
        nvidia_hook(&folder.join("bin"));
        // A bridge and addresses that no other engine on this machine has.
        let number = std::process::id();
        let bridge = format!("ffs{}", number % 1_000_000);
        let (net, subnet) = (128 + (number >> 8) % 64, number % 256);
        let address = format!("10.{net}.{subnet}.1/24");
        // One of its own: without, it has that of some container, and another one when that container goes.
        let ethernet = format!("02:42:0a:{net:02x}:{subnet:02x}:01");
        let mut docker = Self {
            keeper: containerd(&folder, &bridge, &address, &ethernet),
            folder,
            bridge,
            dockerd: None,
        };
        docker.go_on();
        let mut save = Command::new("docker")
            .args(["-H", "unix:///var/run/docker.sock", "save"])
            .args(images)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut load = docker.command(&["load", "--quiet"]);
        let load = load.stdin(save.stdout.take().unwrap()).output().unwrap();
        assert!(save.wait().unwrap().success(), "{images:?} cannot be saved");
        assert!(load.status.success(), "{}", String::from_utf8_lossy(&load.stderr));
        docker
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Where containers' logs are.
    pub(crate) fn containers(&self) -> PathBuf {
        self.folder.join("data/containers")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .arg("-H")
            .arg(format!("unix://{}", self.socket().display()))
            .args(arguments);
        command
    }

    /// Starts it, with all that it had.
    pub(crate) fn go_on(&mut self) {
        let script = r#"
            exec 3<&0
            "$@" </dev/null >>"$FOLDER/log" 2>&1 &
            engine=$!
            { cat <&3 >/dev/null; kill -TERM $engine; } 2>/dev/null &
            wait $engine
        "#;
        let at = |name: &str| self.folder.join(name).display().to_string();
        let process = Command::new("sh")
            .args(["-c", script, "sh", "dockerd"])
            .args(["--host", &format!("unix://{}", at("socket"))])
            .args(["--containerd", &at("containerd")])
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("pid"), "--bridge", &self.bridge])
            .args(["--iptables=false", "--ip6tables=false", "--ip-masq=false"])
            .env("FOLDER", &self.folder)
            .env(
                "PATH",
                format!("{}:{}", at("bin"), std::env::var("PATH").unwrap()),
            )
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        self.dockerd = Some(process);
        let begun = Instant::now();
        while !self.command(&["version"]).output().unwrap().status.success() {
            let ended = self.dockerd.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "dockerd does not answer: {}",
                log(&self.folder)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it and its containers, as `systemctl stop` does.
    pub(crate) fn stop(&mut self) {
        if let Some(mut dockerd) = self.dockerd.take() {
            drop::<Option<ChildStdin>>(dockerd.stdin.take());
            dockerd.wait().unwrap();
        }
    }

    /// SIGKILL: its containers run on.
    pub(crate) fn kill(&mut self) {
        let number = std::fs::read_to_string(self.folder.join("pid")).unwrap();
        let number = nix::unistd::Pid::from_raw(number.trim().parse().unwrap());
        nix::sys::signal::kill(number, nix::sys::signal::Signal::SIGKILL).unwrap();
        self.dockerd.take().unwrap().wait().unwrap();
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- dockerd's log\n{}----", log(&self.folder));
        }
        self.stop();
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Starts containerd and makes the bridge, under a shell that clears all of it away when our end of its
/// standard input is closed: dockerd first, then containers that it left, containerd, mounts, files.
fn containerd(folder: &Path, bridge: &str, address: &str, ethernet: &str) -> Child {
    let script = r#"
        cd "$FOLDER"
        printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' >config.toml
        ip link add "$BRIDGE" address "$ETHERNET" type bridge && ip address add "$ADDRESS" dev "$BRIDGE" && ip link set "$BRIDGE" up
        containerd --config config.toml --address "$FOLDER/containerd" --root "$FOLDER/root" \
            --state "$FOLDER/state" </dev/null >>containerd.log 2>&1 &
        containerd=$!
        cat >/dev/null
        for n in $(seq 300); do
            [ -e pid ] && kill -0 "$(cat pid)" || break
            sleep 0.1
        done
        for task in $(ctr --address "$FOLDER/containerd" --namespace moby tasks list --quiet); do
            ctr --address "$FOLDER/containerd" --namespace moby tasks delete --force "$task"
        done
        kill $containerd
        wait $containerd
        # A dockerd that is killed while it removes a container leaves the shim, which no task names any more.
        for process in /proc/[0-9]*; do
            case "$(tr '\0' ' ' 2>/dev/null <"$process/cmdline")" in
            *containerd-shim*" -address $FOLDER/containerd "*)
                kill -KILL $(cat "$process/task/${process#/proc/}/children") "${process#/proc/}" ;;
            esac
        done
        ip link delete "$BRIDGE"
        cd /
        awk -v folder="$FOLDER/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount
        rm -rf "$FOLDER"
    "#;
    Command::new("sh")
        .args(["-c", script])
        .env("FOLDER", folder)
        .env("BRIDGE", bridge)
        .env("ADDRESS", address)
        .env("ETHERNET", ethernet)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Stands for the hook of NVIDIA's container toolkit, without which Docker refuses to be asked for GPUs.
fn nvidia_hook(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let hook = folder.join("nvidia-container-runtime-hook");
    std::fs::write(&hook, "#!/bin/sh\nexec cat >/dev/null\n").unwrap();
    std::fs::set_permissions(&hook, Permissions::from_mode(0o755)).unwrap();
}

fn log(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
