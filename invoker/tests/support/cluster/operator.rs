//! The invoker's image as OpenWhisk's playbook starts it (`ansible/roles/invoker/tasks/deploy.yml`), in place of
//! the compose file's.

use super::{Cluster, INVOKER, attempt_docker, docker, said};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) struct Playbook<'a> {
    cluster: &'a Cluster,
    container: String,
    folder: PathBuf,
}

impl<'a> Playbook<'a> {
    pub(crate) fn deploy(cluster: &'a Cluster) -> Self {
        let folder = cluster.folder.path().to_owned();
        for name in ["logs", "conf"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        keystore(&folder.join("conf"));
        let root = docker(&["info", "--format", "{{.DockerRootDir}}"]);
        let mount = |from: &str, to: &str| format!("--volume={from}:{to}");
        let at = |name: &str| folder.join(name).display().to_string();
        let name = format!("--name={}_playbook", cluster.project());
        let mounts = [
            mount("/sys/fs/cgroup", "/sys/fs/cgroup"),
            mount(&at("logs"), "/logs"),
            mount(&at("conf"), "/conf"),
            mount(&format!("{root}/containers/"), "/containers"),
            mount("/var/run/docker.sock", "/var/run/docker.sock"),
            mount("/run/docker/runtime-runc/moby", "/run/runc"),
        ];
        let mut options = vec![
            &*name,
            "--hostname=invoker0",
            "--restart=always",
            "--publish=127.0.0.1:0:8080",
        ];
        options.extend(["--pid=host", "--userns=host"]);
        // Inside a container or a small virtual machine Docker itself may lack what it would have to give.
        let (tried, said) = attempt_docker(&["run", "--rm", "--privileged", INVOKER, "true"]);
        if tried.status.success() {
            options.push("--privileged");
        } else {
            eprintln!("the invoker runs without --privileged, which Docker cannot give here: {said}");
        }
        options.extend(mounts.iter().map(String::as_str));
        options.extend(ENVIRONMENT.iter().flat_map(|variable| ["--env", variable]));
        let start = format!(
            "exec /init.sh --id 0 --uniqueName {} >> /logs/invoker0_logs.log 2>&1",
            cluster.name
        );
        let container = cluster.run_invoker(&options, &["/bin/sh", "-c", &start]);
        Self {
            cluster,
            container,
            folder,
        }
    }

    /// The playbook's own wait: twelve tries, five seconds apart, with the client certificate.
    pub(crate) async fn answers(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        let conf = self.folder.join("conf");
        while !self.ping(&conf) {
            assert!(Instant::now() < end, "no answer from /ping: {}", self.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn ping(&self, conf: &Path) -> bool {
        let (port, address) = attempt_docker(&["port", &self.container, "8080"]);
        port.status.success()
            && Command::new("curl")
                .args([
                    "--insecure",
                    "--silent",
                    "--fail",
                    "--max-time",
                    "5",
                    "--cert",
                    "cert.pem",
                    "--key",
                    "key.pem",
                ])
                .arg(format!("https://{address}/ping"))
                .current_dir(conf)
                .output()
                .unwrap()
                .status
                .success()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("logs/invoker0_logs.log")).unwrap_or_default()
    }

    /// A container that is paused.
    pub(crate) fn paused(&self) -> Option<String> {
        let paused = |name: &String| {
            let (_, state) = attempt_docker(&["inspect", "--format", "{{.State.Status}}", name]);
            state == "paused"
        };
        self.cluster.action_containers().into_iter().find(paused)
    }

    pub(crate) fn kill_and_start(&self) {
        docker(&["kill", &self.container]);
        docker(&["start", &self.container]);
    }

    pub(crate) fn stop(&self) {
        docker(&["stop", "--time", "60", &self.container]);
        docker(&["rm", &self.container]);
    }
}

/// What the playbook's template of variables says beyond what the compose file has.
const ENVIRONMENT: [&str; 11] = [
    "JAVA_OPTS=-Xmx2g -XX:+CrashOnOutOfMemoryError",
    "JMX_REMOTE=true",
    "TZ=UTC",
    "CONFIG_whisk_spi_InvokerProvider=",
    "CONFIG_whisk_docker_containerFactory_useRunc=true",
    "CONFIG_whisk_containerProxy_timeouts_pauseGrace=100 ms",
    "CONFIG_whisk_invoker_protocol=https",
    "CONFIG_whisk_invoker_https_keystorePath=/conf/invoker-openwhisk-keystore.p12",
    "CONFIG_whisk_invoker_https_keystorePassword=openwhisk",
    "CONFIG_whisk_invoker_https_keystoreFlavor=PKCS12",
    "CONFIG_whisk_invoker_https_clientAuth=true",
];

/// A store with a key and its self-signed certificate, as `ansible/files/genssl.sh` makes it.
fn keystore(conf: &Path) {
    let new = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=openwhisk-invokers -keyout key.pem -out cert.pem";
    let store = "pkcs12 -export -name openwhisk-invokers -passout pass:openwhisk -in cert.pem -inkey key.pem -out \
                 invoker-openwhisk-keystore.p12";
    for arguments in [new, store] {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(conf)
            .output()
            .expect("openssl can be started: Debian has it in the package openssl");
        said(&output, "openssl");
    }
}
