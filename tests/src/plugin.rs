//! A gateway with a plugin of the name `mine`.

use crate::{Gateway, SERVICE, eventually, fetch, http};

/// The `Plugin` object, with `more` at the end of its `spec`.
pub fn object(kind: &str, more: &str) -> String {
    format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: Plugin\nmetadata: {{name: mine}}\nspec: {{kind: {kind}, source: {{file: mine.wasm}}{more}}}\n---\n"
    )
}

/// The `Plugin` object, and a policy by which it balances the Service with this configuration.
pub fn balanced(config: &str, more: &str) -> String {
    object("balancer", more)
        + "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: '', kind: Service, name: nginx-svc}]\n  loadBalancer: {plugin: mine, config: "
        + config
        + "}\n"
}

/// The `Plugin` object, and a policy by which it routes the Service with this configuration.
pub fn routed(config: &str, more: &str) -> String {
    object("router", more)
        + "apiVersion: sluicegate.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: '', kind: Service, name: nginx-svc}]\n  router: {plugin: mine, config: "
        + config
        + "}\n"
}

/// The object of a built-in discovery plugin, `sd`, with these capabilities and that of publishing the addresses that tests have.
pub fn discovering(builtin: &str, capabilities: &str) -> String {
    format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: Plugin\nmetadata: {{name: sd}}\nspec: {{kind: discovery, source: {{builtin: {builtin}}}, capabilities: {{allowLoopbackEndpoints: true, {capabilities}}}}}\n---\n"
    )
}

/// A policy by which `sd` finds a Service's endpoints with this configuration.
pub fn discovered_by_sd(service: &str, config: &str) -> String {
    format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: {service}}}\nspec:\n  targetRefs: [{{kind: Service, name: {service}}}]\n  discovery: {{plugin: sd, config: {{{config}}}}}\n"
    )
}

/// The `Plugin` object and the policy of the quickstart's Service.
pub fn discovered(builtin: &str, capabilities: &str, config: &str) -> String {
    discovering(builtin, capabilities) + &discovered_by_sd("nginx-svc", config)
}

/// The quickstart's Service, as an HTTP service.
pub fn http_service() -> String {
    SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: http")
}

/// A gateway with two HTTP pods, each with an annotation, and the plugin that these objects declare and use.
pub fn gateway(wasm: &[u8], objects: &str) -> Gateway {
    let gateway = Gateway::new(&[("svc.yaml", &http_service())]);
    for (name, last) in [("a", 2), ("b", 3)] {
        http(gateway.ip(last), name);
        let pod = gateway.pod(name, last, true);
        gateway.write(&format!("{name}.yaml"), &pod.replace("labels:", &format!("annotations: {{cost: '{last}'}}, labels:")));
    }
    std::fs::write(gateway.path("mine.wasm"), wasm).expect("written");
    gateway.write("policy.yaml", objects);
    eventually("generation 1", || gateway.plugin("mine")["generation"]["number"] == 1 && gateway.ready_endpoints() > 0);
    gateway
}

/// The same gateway, once it answers.
pub fn serving(wasm: &[u8], objects: &str) -> Gateway {
    let gateway = gateway(wasm, objects);
    eventually("served", || fetch(gateway.node_port()).0 == 200);
    gateway
}

/// Whether one of the reasons in the plugin's status contains all these words.
pub fn reason_has(gateway: &Gateway, words: &[&str]) -> bool {
    gateway.plugin("mine")["reason"].as_str().is_some_and(|reason| words.iter().all(|word| reason.contains(word)))
}

/// The same code with one more custom section, which makes it another version.
pub fn another(wasm: &[u8]) -> Vec<u8> {
    [wasm, &[0, 2, 1, b'x']].concat()
}

/// Orders an action for the plugin `mine`; returns the status and the text of the answer.
pub fn order(gateway: &Gateway, action: &str) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(crate::PATIENCE)).build().into();
    let url = format!("http://{}/api/v1/plugins/mine/{action}", gateway.admin());
    let mut answer = agent.post(url).header("x-sluicegate-request", "test").send_empty().expect("answered");
    (answer.status().as_u16(), answer.body_mut().read_to_string().expect("a body").trim_end().to_owned())
}

/// The value of a row of `/metrics`.
pub fn metric(gateway: &Gateway, row: &str) -> Option<f64> {
    let text = gateway.get("/metrics").expect("metrics");
    text.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(' ')?.parse().ok())
}
