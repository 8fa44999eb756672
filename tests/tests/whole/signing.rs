//! If keys are trusted, a plugin's file is loaded only if one of them has signed it; what serves goes on serving.

use std::io::Cursor;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign::KeyPair;
use sluicegate_tests::{Gateway, SERVICE, echo, eventually, plugin, replace};

static OURS: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_unencrypted_keypair().expect("keys"));
static OTHERS: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_unencrypted_keypair().expect("keys"));

fn signature(by: &KeyPair, bytes: &[u8]) -> String {
    minisign::sign(None, &by.sk, Cursor::new(bytes), Some("release 7"), None).expect("signed").into_string()
}

fn serving(gateway: &Gateway) -> Option<u64> {
    gateway.plugin("mine")["generation"]["number"].as_u64()
}

#[test]
fn only_what_a_trusted_key_has_signed_is_loaded() {
    let wasm = |name: &str| sluicegate_plugins::builtin(name).expect("built in").wasm();
    let mut gateway = Gateway::with(&[("svc.yaml", SERVICE)], |settled, _| {
        settled.trusted_keys = vec![OURS.pk.to_base64().parse().expect("a key")];
    });
    echo(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    eventually("a built-in plugin needs no signature", || gateway.ready_endpoints() == 1 && gateway.serves("a"));
    std::fs::write(gateway.path("mine.wasm"), wasm("random")).expect("written");
    gateway.write("policy.yaml", &plugin::balanced("{}", ""));
    let refused = |words: &[&str]| {
        let reason = gateway.plugin("mine")["reason"].as_str().unwrap_or_default().to_owned();
        words.iter().chain(&["plugin mine", "stage signature"]).all(|word| reason.contains(word)) && gateway.has_fault(words)
    };
    eventually("not signed", || refused(&["mine.wasm is not signed: there is no", "mine.wasm.minisig"]));
    assert_eq!(serving(&gateway), None);

    let beside = gateway.path("mine.wasm.minisig");
    replace(&beside, signature(&OTHERS, &wasm("random")).as_bytes());
    eventually("by somebody else", || refused(&["signed with the key", "none of the trusted ones"]));
    assert_eq!(serving(&gateway), None);

    // The signature is of another file.
    replace(&beside, signature(&OURS, &wasm("maglev")).as_bytes());
    eventually("of something else", || refused(&["it is not the signature of"]));
    assert_eq!(serving(&gateway), None);

    replace(&beside, signature(&OURS, &wasm("random")).as_bytes());
    eventually("loaded", || serving(&gateway) == Some(1) && gateway.has_no_fault());

    // The new file comes before its signature: the old one serves until the signature is there.
    replace(&gateway.path("mine.wasm"), &wasm("round-robin"));
    eventually("its signature is not its own", || refused(&["it is not the signature of"]));
    assert_eq!(serving(&gateway), Some(1));
    assert!(gateway.serves("a"));
    replace(&beside, signature(&OURS, &wasm("round-robin")).as_bytes());
    eventually("the new one", || serving(&gateway) == Some(2) && gateway.has_no_fault());

    // The signature comes before its file. What serves was signed when it was loaded, and its signature is not checked again.
    replace(&beside, signature(&OURS, &wasm("maglev")).as_bytes());
    gateway.write("b.yaml", &gateway.pod("b", 3, true));
    eventually("what came later is seen", || gateway.ready_endpoints() == 2);
    assert!(gateway.has_no_fault());
    replace(&gateway.path("mine.wasm"), &wasm("maglev"));
    eventually("the third one", || serving(&gateway) == Some(3) && gateway.has_no_fault());
    gateway.stop();
}

#[test]
fn a_plugin_in_a_configmap_is_signed_there() {
    let wasm = |name: &str| sluicegate_plugins::builtin(name).expect("built in").wasm();
    let mut gateway = Gateway::with(&[("svc.yaml", SERVICE)], |settled, _| {
        settled.trusted_keys = vec![OURS.pk.to_base64().parse().expect("a key")];
    });
    let map = |code: &[u8], signature: &str| {
        let binary = serde_json::json!({"mine.wasm": STANDARD.encode(code)});
        let data = serde_json::json!({"mine.wasm.minisig": signature});
        let map =
            serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}, "binaryData": binary, "data": data});
        gateway.write("code.yaml", &map.to_string());
    };
    gateway.write("policy.yaml", &plugin::balanced("{}", "").replace("{file: mine.wasm}", "{configMap: {name: code, key: mine.wasm}}"));
    map(&wasm("random"), &signature(&OTHERS, &wasm("random")));
    let name = "ConfigMap default/code, mine.wasm.minisig";
    eventually("by somebody else", || gateway.has_fault(&[name, "none of the trusted ones"]));
    map(&wasm("random"), &signature(&OURS, &wasm("maglev")));
    eventually("of something else", || gateway.has_fault(&[name, "it is not the signature of"]));
    assert_eq!(serving(&gateway), None);
    map(&wasm("random"), &signature(&OURS, &wasm("random")));
    eventually("loaded", || serving(&gateway) == Some(1) && gateway.has_no_fault());
    gateway.stop();
}
