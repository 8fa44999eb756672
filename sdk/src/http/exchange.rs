//! A request under way, with the redirects that its responses ask for.

use super::{Error, MAX_REDIRECTS, Request, Response, Url, wasi};

/// Ends with a response that is no redirect, or an error.
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

    /// The response, once it is there as a whole.
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

    /// Whether another request follows, which `self.request` is then.
    fn redirected(&mut self, response: &Response) -> Result<bool, Error> {
        // RFC 9110 §15.4: 303 turns everything into GET, and by custom 301 and 302 do so with POST.
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
            // What was meant for one host is not for another.
            self.request.headers.retain(|(name, _)| !["authorization", "cookie"].contains(&name.to_ascii_lowercase().as_str()));
        }
        self.url = next;
        Ok(true)
    }

    /// Ready when [`Exchange::poll`] has more to say.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn pollable(&self) -> crate::bindings::discovery::wasi::io::poll::Pollable {
        self.underway.pollable()
    }

    #[cfg(target_arch = "wasm32")]
    pub(super) fn wait(&self) {
        self.pollable().block();
    }

    /// Natively everything is there at once.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn wait(&self) {}
}
