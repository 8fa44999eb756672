//! A gateway that finds the API server as in a pod: by two variables, and the files of a service account, which are replaced as a kubelet does it.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use sluicegate_tests::apart::{Setup, play};
use sluicegate_tests::load::Load;
use sluicegate_tests::namespace::Bridge;
use sluicegate_tests::{eventually, http};

use super::world::{NODE_PORT, ready, service, world};

const TEST: &str = "cluster::pod::a_pod_outlives_its_token_and_its_authority";
/// Where pods find their service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The files of a service account, in a volume.
struct Account {
    folder: PathBuf,
    times: usize,
}

impl Account {
    /// In a file system of this process's own.
    fn new() -> Self {
        let run = std::fs::canonicalize("/var/run").expect("there is one");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(run).status().expect("mount is there");
        assert!(mounted.success(), "this mount namespace is ours");
        std::fs::create_dir_all(ACCOUNT).expect("a folder");
        let files = ["token", "ca.crt", "namespace"];
        files.iter().for_each(|file| symlink(Path::new("..data").join(file), Path::new(ACCOUNT).join(file)).expect("a link"));
        Self { folder: ACCOUNT.into(), times: 0 }
    }

    /// All files are these from one moment to the next.
    fn set(&mut self, token: &str, authority: &str) {
        self.times += 1;
        let name = format!("..{}", self.times);
        let folder = self.folder.join(&name);
        std::fs::create_dir(&folder).expect("a folder");
        for (file, text) in [("token", token), ("ca.crt", authority), ("namespace", "edge-system")] {
            std::fs::write(folder.join(file), text).expect("written");
        }
        symlink(&name, self.folder.join("..data_tmp")).expect("a link");
        std::fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).expect("renamed");
        if self.times > 1 {
            std::fs::remove_dir_all(self.folder.join(format!("..{}", self.times - 1))).expect("removed");
        }
    }
}

#[test]
fn a_pod_outlives_its_token_and_its_authority() {
    play(TEST, "-rmn", || {
        // For the loopback interface.
        let _ = Bridge::new();
        let (mut server, backends) = world();
        let mut account = Account::new();
        http(backends.ip(2), "a");
        http(backends.ip(3), "b");
        server.put(service(&backends, NODE_PORT));
        server.put(ready(&backends, &[2]));
        account.set("first", server.authority());
        server.set_tokens(&[("first", "gateway")]);
        let state = tempfile::tempdir().expect("a folder");
        let std::net::IpAddr::V4(address) = backends.ip(1) else { unreachable!("of IPv4") };
        let mut setup = Setup::new(TEST, address, None, state.path());
        let variable = |name: &str, value: String| (name.to_owned(), value);
        setup.environment = vec![
            variable("KUBERNETES_SERVICE_HOST", Ipv4Addr::LOCALHOST.to_string()),
            variable("KUBERNETES_SERVICE_PORT", server.address().port().to_string()),
        ];
        let gateway = setup.start();
        eventually("one endpoint", || gateway.ready_endpoints() == 1);
        let lease = || server.get("Lease", "edge-system", "sluicegate").unwrap_or_default();
        eventually("the Lease is in the namespace of the pod", || lease()["spec"]["holderIdentity"].is_string());
        let load = Load::every((address, NODE_PORT).into(), std::time::Duration::from_millis(10));

        // The kubelet writes another token; the old one ends, and with it what was asked by it.
        account.set("second", server.authority());
        server.set_tokens(&[("second", "gateway")]);
        server.stop();
        server.start_again();
        server.put(ready(&backends, &[2, 3]));
        eventually("the new token counts", || gateway.ready_endpoints() == 2);

        // The server gets a certificate of a new authority, of which the file tells a moment later.
        let old = server.authority().to_owned();
        let new = server.change_authority().to_owned();
        server.stop();
        server.start_again();
        eventually("the new authority is not believed yet", || {
            gateway.seen("EndpointSlice")["reason"].as_str().is_some_and(|reason| reason.contains("certificate"))
        });
        account.set("second", &format!("{old}{new}"));
        server.put(ready(&backends, &[3]));
        eventually("it is", || gateway.ready_endpoints() == 1);
        account.set("second", &new);
        eventually("all is well", || gateway.readiness() == (200, "ok\n".to_owned()));
        load.goes_on(10);
        load.end();
        gateway.stop();
    });
}
