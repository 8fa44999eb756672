//! Where the API server is and who asks it: by the service account of this pod, or by a kubeconfig.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// How long a connection may take until TLS is established.
const CONNECT: Duration = Duration::from_secs(10);

/// How the API server is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The kubeconfig; none: the files that `KUBECONFIG` names, else the service account of this pod, else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; none: its current one.
    pub context: Option<String>,
}

impl Connection {
    /// Reads the configuration as it is now: addresses, authorities, and where tokens come from.
    pub(crate) async fn read(&self) -> Result<Config, String> {
        let in_pod = || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && std::env::var_os("KUBECONFIG").is_none();
        let mut config = if self.kubeconfig.is_none() && self.context.is_none() && in_pod() {
            Config::incluster().map_err(|error| format!("the service account of this pod: {error}"))?
        } else {
            self.by_kubeconfig().await?
        };
        config.connect_timeout = Some(CONNECT);
        // Watches are silent for a minute and more. Each request has a deadline of its own.
        (config.read_timeout, config.write_timeout) = (None, None);
        // Whoever asks decides what is asked again, and when.
        config.default_retry = false;
        config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION")))));
        Ok(config)
    }

    async fn by_kubeconfig(&self) -> Result<Config, String> {
        let from = match &self.kubeconfig {
            Some(path) => path.display().to_string(),
            None => "the kubeconfig".to_owned(),
        };
        let file = self.kubeconfig.clone();
        let read = tokio::task::spawn_blocking(move || file.map_or_else(Kubeconfig::read, Kubeconfig::read_from)).await;
        let kubeconfig = read.map_err(|error| error.to_string())?.map_err(|error| format!("{from}: {}", with_causes(&error)))?;
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let authorities = authorities(&kubeconfig, self.context.as_deref());
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let mut config = config.map_err(|error| format!("{from}: {}", with_causes(&error)))?;
        // With the file's name the client reads it again from time to time.
        config.root_cert_file = authorities;
        Ok(config)
    }
}

/// The file of authorities that a context's cluster names, if they are not in the kubeconfig itself.
fn authorities(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<PathBuf> {
    let context = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()?;
    let inline = cluster.certificate_authority_data.as_ref().is_some_and(|data| !data.is_empty());
    cluster.certificate_authority.as_ref().filter(|path| !inline && !path.is_empty()).map(PathBuf::from)
}

/// An error with what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
