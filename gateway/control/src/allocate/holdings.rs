//! Which addresses are held, and by whom. Addresses are looked up as often as holders, so both are keys.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Addresses by their holders, each of which has one. On disk it is that map.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings {
    of: BTreeMap<String, IpAddr>,
    holders: BTreeSet<(IpAddr, String)>,
}

impl Holdings {
    /// The holder of an address. If there are several, it is the first by name.
    pub(super) fn holder(&self, ip: IpAddr) -> Option<&str> {
        let first = (ip, String::new());
        self.holders.range(first..).next().filter(|(held, _)| *held == ip).map(|(_, id)| id.as_str())
    }

    pub(super) fn insert(&mut self, id: String, ip: IpAddr) {
        self.remove(&id);
        self.holders.insert((ip, id.clone()));
        self.of.insert(id, ip);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<IpAddr> {
        let (id, ip) = self.of.remove_entry(id)?;
        self.holders.remove(&(ip, id));
        Some(ip)
    }

    pub(super) fn retain(&mut self, mut stays: impl FnMut(&str, IpAddr) -> bool) {
        *self = std::mem::take(&mut self.of).into_iter().filter(|(id, ip)| stays(id, *ip)).collect();
    }
}

impl Deref for Holdings {
    type Target = BTreeMap<String, IpAddr>;

    fn deref(&self) -> &Self::Target {
        &self.of
    }
}

impl Extend<(String, IpAddr)> for Holdings {
    fn extend<I: IntoIterator<Item = (String, IpAddr)>>(&mut self, all: I) {
        all.into_iter().for_each(|(id, ip)| self.insert(id, ip));
    }
}

impl FromIterator<(String, IpAddr)> for Holdings {
    fn from_iter<I: IntoIterator<Item = (String, IpAddr)>>(all: I) -> Self {
        let mut made = Self::default();
        made.extend(all);
        made
    }
}

impl IntoIterator for Holdings {
    type Item = (String, IpAddr);
    type IntoIter = std::collections::btree_map::IntoIter<String, IpAddr>;

    fn into_iter(self) -> Self::IntoIter {
        self.of.into_iter()
    }
}

impl PartialEq for Holdings {
    fn eq(&self, other: &Self) -> bool {
        self.of == other.of
    }
}

impl Eq for Holdings {}

impl Serialize for Holdings {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.of.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Holdings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_found_by_their_address_as_it_is_now() {
        let ip = |last: u8| IpAddr::from([127, 96, 0, last]);
        let mut held: Holdings = [("b".to_owned(), ip(1)), ("a".to_owned(), ip(1)), ("c".to_owned(), ip(2))].into_iter().collect();
        assert_eq!((held.holder(ip(1)), held.holder(ip(2)), held.holder(ip(3))), (Some("a"), Some("c"), None));
        held.insert("a".to_owned(), ip(3));
        assert_eq!((held.holder(ip(1)), held.holder(ip(3))), (Some("b"), Some("a")));
        assert_eq!((held.remove("a"), held.remove("d"), held.holder(ip(3)), held.len()), (Some(ip(3)), None, None, 2));
        held.retain(|id, _| id != "b");
        assert_eq!((held.remove("c"), held.holder(ip(1)), held.holder(ip(2)), held.len()), (Some(ip(2)), None, None, 0));
        held.insert("a".to_owned(), ip(3));
        let text = serde_json::to_string(&held).expect("JSON");
        assert_eq!(text, r#"{"a":"127.96.0.3"}"#);
        let read: Holdings = serde_json::from_str(&text).expect("read");
        assert_eq!((read.holder(ip(3)), &read), (Some("a"), &held));
    }
}
