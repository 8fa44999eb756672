//! A request under way, with the redirects that its responses ask for.

use super::{Error, MAX_REDIRECTS, Request, Response, Url, wasi};

/// An exchange that ends with an error, or with a response that is no redirect.
pub(crate) struct Exchange {
    request: Request,
    url: Url,
    redirects: usize,
    underway: wasi::Underway,
}

impl Exchange {
    pub(crate) fn begin(request: Request) -> Result<Self, Error> {
        let url = Url::parse(&request.url)?;
        let underway = wasi::begin(&request, &url)?;
        Ok(Self { request, url, redirects: 0, underway })
    }

    /// Returns the response once all of it has come.
    pub(crate) fn poll(&mut self) -> Option<Result<Response, Error>> {
        loop {
            let response = match self.underway.poll(&self.request, &self.url)? {
                Ok(response) => response,
                Err(error) => return Some(Err(error)),
            };
            match self.redirected(&response) {
                Ok(false) => return Some(Ok(response)),
                Ok(true) => match wasi::begin(&self.request, &self.url) {
                    Ok(underway) => self.underway = underway,
                    Err(error) => return Some(Err(error)),
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Whether the response asks for another request. If so, `self.request` is that one.
    fn redirected(&mut self, response: &Response) -> Result<bool, Error> {
        // RFC 9110 §15.4: 303 turns every method into GET; 301 and 302 customarily turn POST into GET.
        let again = match (response.status, self.request.method.as_str()) {
            (301..=303, "POST") | (303, _) => false,
            (301 | 302 | 307 | 308, _) => true,
            _ => return Ok(false),
        };
        let Some(location) = response.header("location") else { return Ok(false) };
        if self.redirects == MAX_REDIRECTS {
            return Err(Error::Redirects);
        }
        self.redirects += 1;
        let next = self.url.join(location)?;
        if !again {
            self.request.body = None;
            if self.request.method != "HEAD" {
                self.request.method = "GET".into();
            }
        }
        if next.origin() != self.url.origin() {
            // Credentials that were meant for one host are not sent to another.
            self.request.headers.retain(|(name, _)| !["authorization", "cookie"].contains(&name.to_ascii_lowercase().as_str()));
        }
        self.url = next;
        Ok(true)
    }

    /// Waits until [`Exchange::poll`] can make progress.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn pollable(&self) -> crate::bindings::discovery::wasi::io::poll::Pollable {
        self.underway.pollable()
    }

    #[cfg(target_arch = "wasm32")]
    pub(super) fn wait(&self) {
        self.pollable().block();
    }

    /// Natively nothing has to be waited for.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn wait(&self) {}
}
