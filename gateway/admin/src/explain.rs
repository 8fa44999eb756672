//! What would become of a request, by what is served now: the page's form, and `GET /api/v1/explain`.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use sluicegate_model::escape;
use sluicegate_model::explain::{Explanation, Question};

use crate::Shared;
use crate::shown::Shown;

/// The longest header fields that are taken, in bytes of all together.
const MOST: usize = 64 << 10;

/// The request, as it stands in the query of the URL.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    #[serde(default = "get")]
    method: String,
    url: String,
    port: u16,
    #[serde(default)]
    udp: bool,
    address: Option<IpAddr>,
    /// Lines, each with a name, a colon and a value.
    #[serde(default)]
    headers: String,
    client: Option<IpAddr>,
}

fn get() -> String {
    "GET".to_owned()
}

impl Asked {
    fn question(self) -> Result<Question, String> {
        if self.headers.len() > MOST {
            return Err(format!("the header fields have more than {MOST} bytes"));
        }
        let lines = self.headers.lines().map(str::trim).filter(|line| !line.is_empty());
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("{line:?}: a header field has a name, a colon and a value"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        });
        Ok(Question {
            method: self.method,
            url: self.url,
            port: self.port,
            udp: self.udp,
            address: self.address,
            headers: headers.collect::<Result<_, String>>()?,
            client: self.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        })
    }
}

/// One request is explained at a time: plugins are asked, and may take as long as they may.
pub(crate) async fn explain(State(shared): State<Shared>, Query(asked): Query<Asked>) -> Result<Shown<Explanation>, (StatusCode, String)> {
    let wrong = |why: String| (StatusCode::BAD_REQUEST, format!("{}\n", escape::line(&why)));
    let question = asked.question().map_err(wrong)?;
    let Ok(_turn) = shared.explaining.try_acquire() else {
        return Err((StatusCode::CONFLICT, "another request is being explained: try again\n".to_owned()));
    };
    let explain = shared.view.explain.clone();
    let explained = tokio::task::spawn_blocking(move || explain(&question)).await;
    let explained = explained.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))?;
    explained.map(Shown).map_err(wrong)
}
