//! `sluicegate plugin keygen`, `sign` and `verify`, as a release does it.

use std::path::Path;
use std::process::Output;

fn plugin(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = crate::binary();
    let Output { status, stdout, stderr } = command.current_dir(folder).arg("plugin").args(arguments).output().expect("runs");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"))
}

#[test]
fn a_file_is_signed_and_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let ask = |arguments: &[&str]| plugin(folder.path(), arguments);
    std::fs::write(at("password"), "a long one\n").expect("written");
    std::fs::write(at("mine.wasm"), sluicegate_plugins::builtin("random").expect("built in").wasm()).expect("written");

    let (code, out, err) = ask(&["keygen", "release", "--password-file", "password"]);
    assert_eq!(code, Some(0), "{err}");
    let key = out.split(['[', ']']).nth(1).expect("the key is shown").to_owned();
    assert!(out.contains("trustedKeys"), "{out}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(at("release.key")).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600, "only its owner reads it");
    let (code, out, err) = ask(&["keygen", "release-1.2", "--without-password"]);
    assert_eq!((code, out.starts_with("release-1.2.key: ")), (Some(0), true), "{out}{err}");
    let (code, _, err) = ask(&["keygen", "release", "--without-password"]);
    assert_eq!((code, err.contains("release.key exists already")), (Some(1), true), "{err}");

    let sign = ["sign", "--key", "release.key", "--password-file", "password", "mine.wasm", "--comment", "version 1.2.0"];
    let (code, out, err) = ask(&sign);
    assert_eq!((code, out.as_str()), (Some(0), "mine.wasm.minisig: version 1.2.0\n"), "{err}");
    for key in [&key, "release.pub"] {
        let (code, out, err) = ask(&["verify", "--key", key, "mine.wasm"]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.starts_with("mine.wasm: signed with the key ") && out.ends_with(", version 1.2.0\n"), "{out}");
    }

    // These have the wrong password, another key, and another file.
    std::fs::write(at("password"), "a wrong one\n").expect("written");
    let (code, _, err) = ask(&sign);
    assert_eq!((code, err.contains("release.key: ")), (Some(1), true), "{err}");
    let (code, out, _) = ask(&["keygen", "other", "--without-password"]);
    assert_eq!(code, Some(0), "{out}");
    let (code, _, err) = ask(&["verify", "--key", "other.pub", "mine.wasm"]);
    assert_eq!((code, err.contains("which is none of the trusted ones")), (Some(1), true), "{err}");
    std::fs::write(at("mine.wasm"), sluicegate_plugins::builtin("maglev").expect("built in").wasm()).expect("written");
    let (code, _, err) = ask(&["verify", "--key", "release.pub", "mine.wasm"]);
    assert_eq!((code, err.contains("it is not the signature of mine.wasm")), (Some(1), true), "{err}");
    // This one has no password, and the usual comment.
    let (code, out, err) = ask(&["sign", "--key", "other.key", "mine.wasm"]);
    assert_eq!((code, out.contains("\tfile:mine.wasm\thashed")), (Some(0), true), "{out}{err}");
    assert_eq!(ask(&["verify", "--key", "other.pub", "mine.wasm"]).0, Some(0));
    assert_eq!(ask(&["verify", "--key", "nothing", "mine.wasm"]).0, Some(1));
}
