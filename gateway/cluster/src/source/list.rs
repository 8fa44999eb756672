//! Lists in pages, for servers that do not begin a watch with what there is.

use std::collections::BTreeSet;

use serde_json::Value;

use super::follow::{Follower, Trouble};
use super::told::Key;
use crate::client::ClusterError;

/// How many objects a page has.
const PAGE: usize = 500;
/// How many times a list is begun whose pages have become too old in the middle (410). The last time there are no pages.
const ATTEMPTS: usize = 3;

impl Follower {
    /// Lists everything; what is watched then begins at its version. A list whose rest has become too old is begun anew: going on with the token that the
    /// server offers for that would leave out what has changed meanwhile.
    pub(super) async fn list(&mut self) -> Result<(), Trouble> {
        let mut there = BTreeSet::new();
        for attempt in 1..=ATTEMPTS {
            there.clear();
            match self.pages(attempt < ATTEMPTS, &mut there).await {
                Err(ClusterError::Refused(refused)) if refused.code == 410 && attempt < ATTEMPTS => {}
                Err(error) => {
                    // What was read until then is as new as it can be.
                    self.flush();
                    return Err(Trouble::Failed(error));
                }
                Ok(version) => {
                    self.listed(&there, version);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn pages(&mut self, paged: bool, there: &mut BTreeSet<Key>) -> Result<String, ClusterError> {
        let mut token: Option<String> = None;
        loop {
            let mut query = if paged { format!("limit={PAGE}") } else { String::new() };
            if let Some(token) = &token {
                query = format!("{query}&continue={}", escaped(token));
            }
            let mut list = self.get(&query).await?;
            let text = |field: &str| list["metadata"][field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            let (version, more) = (text("resourceVersion"), text("continue"));
            let Value::Array(items) = list["items"].take() else {
                return Err(ClusterError::Damaged("a list has no items".to_owned()));
            };
            for item in items {
                self.apply(item, Some(there));
            }
            match (more, version) {
                (Some(more), _) if token.as_ref() != Some(&more) => token = Some(more),
                (_, Some(version)) => return Ok(version),
                (_, None) => return Err(ClusterError::Damaged("a list has no resourceVersion".to_owned())),
            }
        }
    }
}

/// A token as a query may have it. Tokens are in base64.
fn escaped(token: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    token.bytes().map(|byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
