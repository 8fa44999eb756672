//! Mirrors: copies of requests, whose responses are dropped. A mirror never slows or fails the request that it copies.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use http::Request;
use rand::RngExt as _;
use sluicegate_decide::way::Matched;
use sluicegate_model::snapshot::Side;
use tokio::sync::mpsc;

use super::Exchanges;
use super::peer::Peer;
use crate::core::View;
use crate::core::places;
use crate::endpoint::{Busy, Opening, Patience, Speak};
use crate::h1::Spellings;
use crate::http::body::{Copied, RequestBody};
use crate::http::rules::deferred::Deferred;
use crate::http::upstream;

/// How long a copy may take, from its first byte to the end of its response.
const DEADLINE: Duration = Duration::from_secs(10);
/// How many parts a copy may lag behind its original.
const LAG: usize = 32;
/// How many copies may be under way in one worker; further ones are left out.
const AT_ONCE: usize = 256;

/// Starts the copies that a rule, or the backend that it chose, asks for. If there is content to copy, the request's body is teed.
pub(in crate::http) fn start(
    matched: &Matched<'_>,
    request: &mut Request<RequestBody<'_>>,
    view: &Rc<View>,
    peer: &Peer,
    shared: &Rc<Exchanges>,
) {
    let mut copies = Vec::new();
    let services = matched.rung.mirrors(matched.choice.rule);
    for ((backend, mirror), service) in matched.rule.mirrors().zip(services) {
        let Some(service) = service.filter(|_| backend.is_none() || backend == matched.choice.backend) else { continue };
        let drawn = rand::rng().random_range(0..mirror.denominator.max(1)) < mirror.numerator;
        if !drawn || shared.mirrors.get() >= AT_ONCE {
            continue;
        }
        let mut body = if request.body().is_end() {
            RequestBody::Empty
        } else {
            let (to, from) = mpsc::channel::<Copied>(LAG);
            copies.push(to);
            RequestBody::Copy(from, request.body().framing())
        };
        let mut copy = Request::new(());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        if let Some(spellings) = request.extensions().get::<Spellings>() {
            copy.extensions_mut().insert(spellings.clone());
        }
        let hello = view.snapshot.services.get(&service).and_then(|service| peer.hello(service));
        let (view, client, shared, under_way) = (view.clone(), peer.address.ip(), shared.clone(), UnderWay::new(shared));
        tokio::task::spawn_local(async move {
            let _under_way = under_way;
            let sending = async {
                let service = view.snapshot.services.get(&service)?;
                let picked = shared.core.decider.borrow_mut().pick(service, Side::Internal, client, None, &[]).ok()?;
                let _busy = Busy::new(&picked);
                // A connection that tells the endpoint of the client is this copy's alone.
                let upstreams = if hello.is_some() { Rc::default() } else { shared.upstreams.clone() };
                let mut link = match upstreams.check_out(service, picked.address) {
                    Some(link) => link,
                    None => {
                        let places = places::connection(service, &picked).ok()?;
                        let opening =
                            Opening { hello: hello.as_deref(), speak: Speak::http(service), patience: Patience::Whole, from: None };
                        Box::pin(upstream::open(service, &picked, opening, places, &upstreams, &shared.endpoints)).await?
                    }
                };
                link.begin(&mut Deferred::new(&mut copy, None), body.framing());
                let head = poll_fn(|context| link.poll_head(copy.method(), &mut body, context));
                // An interim response is enough for a mirror.
                head.await.ok()?;
                while let Some(part) = poll_fn(|context| link.poll_part(&mut body, context)).await {
                    part.ok()?;
                }
                Some(())
            };
            // The outcome changes nothing.
            let _ = tokio::time::timeout(DEADLINE, sending).await;
        });
    }
    if !copies.is_empty() {
        let original = std::mem::replace(request.body_mut(), RequestBody::Empty);
        *request.body_mut() = RequestBody::Teed(Box::new((original, copies)));
    }
}

struct UnderWay(Rc<Exchanges>);

impl UnderWay {
    fn new(shared: &Rc<Exchanges>) -> Self {
        shared.mirrors.set(shared.mirrors.get() + 1);
        Self(shared.clone())
    }

    fn counter(&self) -> &Cell<usize> {
        &self.0.mirrors
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.counter().set(self.counter().get() - 1);
    }
}
