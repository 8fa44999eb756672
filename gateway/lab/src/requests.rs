//! Requests for routers, made from a seed and from the words of the router's own configuration, so that its rules are met.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use rand::{Rng as _, RngExt as _};
use serde_json::Value;
use sluicegate_model::route::{Interests, RouteView};

use crate::generate::Random;

/// The words that requests are made of.
pub struct Words {
    paths: Vec<String>,
    hosts: Vec<String>,
    values: Vec<String>,
    /// Names and values that fields are compared with, from objects that have both.
    named: Vec<(String, String)>,
}

/// A request, owned.
#[derive(Clone, Debug)]
pub struct Made {
    method: String,
    host: String,
    path: String,
    query: String,
    headers: HeaderMap,
    client: IpAddr,
}

impl Made {
    /// The request as a router sees it.
    pub fn view(&self) -> RouteView<'_> {
        RouteView {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            client: self.client,
        }
    }
}

impl Words {
    /// Collects every word of a configuration.
    pub fn of(config: &Value) -> Self {
        let mut words =
            Self { paths: vec!["/".to_owned()], hosts: vec!["example.com".to_owned()], values: vec!["1".to_owned()], named: Vec::new() };
        words.collect(config);
        words
    }

    fn collect(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.starts_with('/') => self.paths.push(text.clone()),
            Value::String(text) => {
                if text.contains('.') {
                    self.hosts.push(text.replace('*', "any"));
                }
                self.values.push(text.clone());
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect(item)),
            Value::Object(map) => {
                if let (Some(Value::String(name)), Some(Value::String(value))) = (map.get("name"), map.get("value")) {
                    self.named.push((name.clone(), value.clone()));
                }
                map.values().for_each(|item| self.collect(item));
            }
            _ => {}
        }
    }

    /// A request as clients send them: it meets the configuration's paths and hosts, and has the fields that the router reads.
    pub fn plain(&self, interests: &Interests, random: &mut Random) -> Made {
        let mut headers = HeaderMap::new();
        for name in &interests.headers {
            let wanted = self.named.iter().filter(|(named, _)| named.eq_ignore_ascii_case(name.as_str())).map(|(_, value)| value);
            let wanted: Vec<String> = wanted.cloned().collect();
            let value = one(if wanted.is_empty() { &self.values } else { &wanted }, random);
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        let mut path = one(&self.paths, random).trim_end_matches('/').to_owned();
        path.push_str(["/", "/items", ""][random.random_range(0..3_usize)]);
        if path.is_empty() {
            path.push('/');
        }
        Made {
            method: ["GET", "GET", "GET", "POST", "PUT", "DELETE"][random.random_range(0..6_usize)].to_owned(),
            host: one(&self.hosts, random).to_owned(),
            path,
            query: "page=2".to_owned(),
            headers,
            client: IpAddr::from([10, 0, 0, random.random_range(1..=254)]),
        }
    }

    /// A request with whatever may come: odd methods, long and empty paths, fields that repeat or are not UTF-8, cookies, addresses of both families.
    pub fn wild(&self, interests: &Interests, random: &mut Random) -> Made {
        let mut made = self.plain(interests, random);
        match random.random_range(0..8) {
            0 => made.method = ["PROPFIND", "M-SEARCH", "", "get"][random.random_range(0..4_usize)].to_owned(),
            1 => made.path = format!("/{}", "a/".repeat(random.random_range(0..2_000))),
            2 => made.path = ["/%2e%2e/%00", "//", "/\u{e9}\u{4e2d}", "*", ""][random.random_range(0..5_usize)].to_owned(),
            3 => made.host = ["", "[::1]", "x.y.z.example.com", "EXAMPLE"][random.random_range(0..4_usize)].to_owned(),
            4 => made.headers.clear(),
            5 => made.query = format!("{}={}", one(&self.values, random), "v&".repeat(random.random_range(0..500))),
            6 => made.client = IpAddr::from(u128::from(random.next_u64()).to_be_bytes()),
            _ => {
                for name in &interests.headers {
                    made.headers.append(name, HeaderValue::from_static("again"));
                    made.headers.append(name, HeaderValue::from_bytes(&[0x80, 0xff]).unwrap_or(HeaderValue::from_static("")));
                }
            }
        }
        for name in &interests.cookies {
            if let Ok(cookie) = HeaderValue::from_str(&format!("a=b; {name}={}; c", one(&self.values, random))) {
                made.headers.append(HeaderName::from_static("cookie"), cookie);
            }
        }
        made
    }
}

fn one<'a>(words: &'a [String], random: &mut Random) -> &'a str {
    &words[random.random_range(0..words.len())]
}
