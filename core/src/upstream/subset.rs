//! Subsets of a cluster's hosts by their metadata.
//!
//! **Invariant:** finding the subset of a request costs no allocation and does not depend on how many there are.

use std::collections::HashMap;

use super::random::stable_hash;
use crate::config::schema::{self, Fallback, MetadataMatch};

/// Which subset has which metadata.
#[derive(Debug)]
pub(super) struct Subsets {
    /// What the hosts of each subset say, with its group. Sorted by the hash of that.
    by_hash: Box<[(u64, MetadataMatch, u32)]>,
    fallback: Otherwise,
}

/// Where a request goes that no subset is there for.
#[derive(Clone, Copy, Debug)]
enum Otherwise {
    Nowhere,
    Group(u32),
}

impl Subsets {
    /// The subsets of `hosts` hosts, and the hosts of each group from 1 on.
    pub(super) fn new<'m>(
        config: &schema::Subsets,
        hosts: usize,
        metadata: impl Fn(u32) -> Option<&'m MetadataMatch>,
    ) -> (Self, Vec<Vec<u32>>) {
        let mut made: HashMap<MetadataMatch, Vec<u32>> = HashMap::new();
        for (index, said) in (0..).take(hosts).filter_map(|index| Some((index, metadata(index)?))) {
            for keys in &config.selectors {
                let pairs = keys.iter().map(|k| Some((k.clone(), said.get(k)?.to_owned())));
                if let Some(pairs) = pairs.collect::<Option<Vec<_>>>() {
                    made.entry(MetadataMatch::new(pairs)).or_default().push(index);
                }
            }
        }
        let mut by_hash: Vec<_> = made.into_iter().map(|(said, hosts)| (hash(&said), said, hosts)).collect();
        by_hash.sort_unstable_by(|a, b| (a.0, &a.2).cmp(&(b.0, &b.2)));
        let (mut index, mut groups) = (Vec::with_capacity(by_hash.len()), Vec::with_capacity(by_hash.len() + 1));
        for ((hash, said, hosts), group) in by_hash.into_iter().zip(1..) {
            index.push((hash, said, group));
            groups.push(hosts);
        }
        let fallback = match &config.fallback {
            Fallback::None => Otherwise::Nowhere,
            Fallback::Any => Otherwise::Group(0),
            Fallback::Default(wanted) => {
                let has = |i: &u32| metadata(*i).map_or(wanted.is_empty(), |said| said.contains(wanted));
                groups.push((0..).take(hosts).filter(has).collect());
                Otherwise::Group(u32::try_from(groups.len()).unwrap_or(0))
            }
        };
        (Self { by_hash: index.into(), fallback }, groups)
    }

    /// The group of the subset with exactly this metadata, or the one to fall back to, and whether it is that.
    pub(super) fn find(&self, metadata: &MetadataMatch) -> Option<(usize, bool)> {
        let hash = hash(metadata);
        let start = self.by_hash.partition_point(|(h, ..)| *h < hash);
        let same = self.by_hash[start..].iter().take_while(|(h, ..)| *h == hash);
        if let Some((.., group)) = same.into_iter().find(|(_, said, _)| said == metadata) {
            return Some((*group as usize, false));
        }
        match self.fallback {
            Otherwise::Nowhere => None,
            Otherwise::Group(group) => Some((group as usize, true)),
        }
    }
}

fn hash(metadata: &MetadataMatch) -> u64 {
    metadata.iter().fold(0, |h, (key, value)| stable_hash(value.as_bytes(), stable_hash(key.as_bytes(), h)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str) -> MetadataMatch {
        MetadataMatch::new(text.split(',').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.into(), v.into())))
    }

    #[test]
    fn a_request_finds_the_hosts_that_say_the_same() {
        let hosts = ["zone=a,app=x", "zone=b,app=x", "zone=a", ""].map(says);
        let mut config = schema::Subsets {
            fallback: Fallback::None,
            selectors: vec![vec!["zone".into()], vec!["app".into(), "zone".into()]],
        };
        let find = |config: &schema::Subsets, wanted: &str| {
            let (subsets, groups) = Subsets::new(config, 4, |i| Some(&hosts[i as usize]).filter(|m| !m.is_empty()));
            subsets
                .find(&says(wanted))
                .map(|(group, fell)| (if group == 0 { vec![] } else { groups[group - 1].clone() }, fell))
        };
        assert_eq!(find(&config, "zone=a"), Some((vec![0, 2], false)));
        assert_eq!(find(&config, "app=x,zone=b"), Some((vec![1], false)));
        // There is no selector for `app` alone.
        assert_eq!(find(&config, "app=x"), None);
        config.fallback = Fallback::Any;
        assert_eq!(find(&config, "zone=c"), Some((vec![], true)));
        config.fallback = Fallback::Default(says("app=x"));
        assert_eq!(find(&config, "zone=c"), Some((vec![0, 1], true)));
    }
}
