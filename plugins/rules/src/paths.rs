//! The matches of one host name by path. Whatever their number, a request costs one look-up for its whole path, one for its gRPC service and
//! method, and one for each `/` at which some prefix of that length ends. Only regular expressions are walked.

use rustc_hash::FxHashMap;

use crate::value::{Budget, OverBudget, Pattern, Test};

/// A condition on a path.
#[derive(Debug)]
pub(crate) enum PathTest {
    Exact(Box<str>),
    Pattern(Box<Pattern>),
    /// The path must be that of a gRPC call. Calls that an exact path can express are not among these.
    Call(Box<CallTest>),
    /// The path must have this prefix, which is kept without the slash at its end.
    Prefix(Box<str>),
}

/// Conditions on the parts of `/service/method`. `None`: the part may be anything. If both are exact, the condition is an exact path instead.
#[derive(Debug)]
pub(crate) struct CallTest {
    pub(crate) service: Option<Test>,
    pub(crate) method: Option<Test>,
}

/// How specific a condition on a path is among those of the same list, the most specific first; see [`PathTest::precedence`].
pub(crate) type Precedence = (u8, usize, u8, usize);

impl PathTest {
    /// The order of conditions within a list of [`Paths`]: longer regular expressions come first. For gRPC the service counts before the method, and for each
    /// of them an exact value comes before a regular expression, and that before no condition.
    pub(crate) fn precedence(&self) -> Precedence {
        let of = |test: &Option<Test>| match test {
            Some(Test::Exact(text)) => (2, text.len()),
            Some(Test::Pattern(pattern)) => (1, pattern.len()),
            None => (0, 0),
        };
        match self {
            Self::Exact(_) | Self::Prefix(_) => (0, 0, 0, 0),
            Self::Pattern(pattern) => (1, pattern.len(), 0, 0),
            Self::Call(call) => {
                let ((service, length), (method, rest)) = (of(&call.service), of(&call.method));
                (service, length, method, rest)
            }
        }
    }

    /// Whether the condition holds for a path by which its list was found.
    pub(crate) fn holds(&self, path: &str, budget: &Budget) -> Result<bool, OverBudget> {
        let part = |test: &Option<Test>, text: &str| test.as_ref().map_or(Ok(true), |test| test.holds(text, budget));
        match self {
            Self::Exact(_) | Self::Prefix(_) => Ok(true),
            Self::Pattern(pattern) => pattern.matches(path, budget),
            Self::Call(call) => match call_of(path) {
                Some((service, method)) => Ok(part(&call.service, service)? && part(&call.method, method)?),
                None => Ok(false),
            },
        }
    }

    /// How many bytes of the path a prefix rewrite replaces.
    pub(crate) fn matched_prefix(&self) -> u32 {
        match self {
            // Paths were checked to have at most 1024 bytes.
            Self::Exact(path) | Self::Prefix(path) => path.len() as u32,
            Self::Pattern(_) | Self::Call(_) => 0,
        }
    }
}

/// The service and the method in the path of a gRPC call (grpc.io, "gRPC over HTTP2", Path).
fn call_of(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (!service.is_empty() && !method.is_empty() && !method.contains('/')).then_some((service, method))
}

/// The lists of one host name. Each is in the order of precedence.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    exact: FxHashMap<Box<str>, Vec<u32>>,
    /// The conditions on gRPC calls. They are boxed, as there are many hosts and most have none.
    calls: Option<Box<Calls>>,
    patterns: Vec<u32>,
    prefixes: FxHashMap<Box<str>, Vec<u32>>,
    /// The list of the prefix `/`.
    root: Vec<u32>,
    /// The length of the longest of `prefixes`.
    longest: usize,
    /// A bit for each length of `prefixes`, modulo 64. Lengths that no prefix has are not looked up.
    lengths: u64,
}

/// The conditions on gRPC calls that are no exact path, by the part that is exact.
#[derive(Debug, Default)]
struct Calls {
    by_service: FxHashMap<Box<str>, Vec<u32>>,
    /// Conditions with a regular expression for the service.
    patterns: Vec<u32>,
    /// Conditions with any service, by their exact method.
    by_method: FxHashMap<Box<str>, Vec<u32>>,
    /// Conditions with any service and without an exact method.
    others: Vec<u32>,
}

impl Calls {
    fn list(&mut self, call: &CallTest) -> &mut Vec<u32> {
        match (&call.service, &call.method) {
            (Some(Test::Exact(service)), _) => self.by_service.entry(service.clone()).or_default(),
            (Some(Test::Pattern(_)), _) => &mut self.patterns,
            (None, Some(Test::Exact(method))) => self.by_method.entry(method.clone()).or_default(),
            (None, _) => &mut self.others,
        }
    }

    fn matching<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a u32> {
        let lists = call_of(path).map(|(service, method)| {
            let of_service = self.by_service.get(service).into_iter().flatten();
            let of_method = self.by_method.get(method).into_iter().flatten();
            of_service.chain(&self.patterns).chain(of_method).chain(&self.others)
        });
        lists.into_iter().flatten()
    }
}

impl Paths {
    /// Returns the list in which a condition stands.
    pub(crate) fn list(&mut self, path: &PathTest) -> &mut Vec<u32> {
        match path {
            PathTest::Exact(path) => self.exact.entry(path.clone()).or_default(),
            PathTest::Pattern(_) => &mut self.patterns,
            PathTest::Call(call) => self.calls.get_or_insert_default().list(call),
            PathTest::Prefix(prefix) if prefix.is_empty() => &mut self.root,
            PathTest::Prefix(prefix) => {
                self.longest = self.longest.max(prefix.len());
                self.lengths |= bit(prefix.len());
                self.prefixes.entry(prefix.clone()).or_default()
            }
        }
    }

    /// Removes lists that are empty.
    pub(crate) fn tidy(&mut self) {
        self.exact.retain(|_, list| !list.is_empty());
        let before = self.prefixes.len();
        self.prefixes.retain(|_, list| !list.is_empty());
        if self.prefixes.len() < before {
            self.longest = self.prefixes.keys().map(|prefix| prefix.len()).max().unwrap_or_default();
            self.lengths = self.prefixes.keys().fold(0, |lengths, prefix| lengths | bit(prefix.len()));
        }
        if let Some(calls) = &mut self.calls {
            calls.by_service.retain(|_, list| !list.is_empty());
            calls.by_method.retain(|_, list| !list.is_empty());
            if calls.by_service.is_empty() && calls.patterns.is_empty() && calls.by_method.is_empty() && calls.others.is_empty() {
                self.calls = None;
            }
        }
    }

    /// Whether nothing is listed. This must be asked after [`Self::tidy`].
    pub(crate) fn is_empty(&self) -> bool {
        let Self { exact, calls, patterns, prefixes, root, longest: _, lengths: _ } = self;
        exact.is_empty() && calls.is_none() && patterns.is_empty() && prefixes.is_empty() && root.is_empty()
    }

    /// The matches that a path may lead to, the most specific first: exact paths, gRPC calls, regular expressions (as in Envoy Gateway), prefixes.
    pub(crate) fn matching<'a>(&'a self, path: &'a str) -> impl Iterator<Item = u32> + 'a {
        let exact = self.exact.get(path).into_iter().flatten();
        let calls = self.calls.iter().flat_map(move |calls| calls.matching(path));
        // Every path counts as having the prefix `/`, also the `*` of OPTIONS and the empty path of CONNECT.
        exact.chain(calls).chain(&self.patterns).chain(self.prefixes(path).flatten()).chain(&self.root).copied()
    }

    /// The lists of the path's prefixes, the longest first.
    fn prefixes<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Vec<u32>> {
        let mut end = if self.longest == 0 { 0 } else { path.len().min(self.longest) };
        std::iter::from_fn(move || {
            while end > 0 {
                let at = end;
                end -= 1;
                let ends_element = matches!(path.as_bytes().get(at), None | Some(b'/'));
                if ends_element
                    && self.lengths & bit(at) != 0
                    && let Some(list) = path.get(..at).and_then(|prefix| self.prefixes.get(prefix))
                {
                    return Some(list);
                }
            }
            None
        })
    }
}

fn bit(length: usize) -> u64 {
    1 << (length % 64)
}
