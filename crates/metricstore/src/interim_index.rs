//! A plain label index, in the place of the `labelindex` crate until that has its first code.
#![allow(missing_docs, unreachable_pub, dead_code)]
use model::{Labels, Matcher};
use std::collections::BTreeMap;
pub trait LabelIndex {
    fn select(&self, m: &[Matcher]) -> Vec<u32>;
    fn labels(&self, o: u32) -> Labels;
    fn series_count(&self) -> usize;
}
fn matches(l: &Labels, m: &[Matcher]) -> bool {
    m.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")))
}
#[derive(Default)]
pub struct MemIndex(BTreeMap<u32, Labels>);
impl MemIndex {
    pub fn insert(&mut self, o: u32, l: &Labels) {
        self.0.insert(o, l.clone());
    }
    pub fn remove(&mut self, o: u32) {
        self.0.remove(&o);
    }
    pub fn bytes(&self) -> usize {
        0
    }
    pub fn series_count(&self) -> usize {
        self.0.len()
    }
}
impl LabelIndex for MemIndex {
    fn select(&self, m: &[Matcher]) -> Vec<u32> {
        self.0.iter().filter(|(_, l)| matches(l, m)).map(|(o, _)| *o).collect()
    }
    fn labels(&self, o: u32) -> Labels {
        self.0[&o].clone()
    }
    fn series_count(&self) -> usize {
        self.0.len()
    }
}
#[derive(Default)]
pub struct BlockIndexBuilder(Vec<u8>);
impl BlockIndexBuilder {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn push(&mut self, l: &Labels) {
        codec::varint::put_bytes(&mut self.0, l.as_packed());
    }
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend(self.0);
    }
}
pub struct BlockIndex(Vec<Labels>);
impl BlockIndex {
    pub fn open(b: std::sync::Arc<[u8]>) -> Result<Self, codec::CodecError> {
        let mut v = vec![];
        let mut r: &[u8] = &b;
        while !r.is_empty() {
            v.push(Labels::from_packed(codec::varint::take_prefixed(&mut r)?).expect("stub"));
        }
        Ok(Self(v))
    }
}
impl LabelIndex for BlockIndex {
    fn select(&self, m: &[Matcher]) -> Vec<u32> {
        (0..self.0.len() as u32).filter(|o| matches(&self.0[*o as usize], m)).collect()
    }
    fn labels(&self, o: u32) -> Labels {
        self.0[o as usize].clone()
    }
    fn series_count(&self) -> usize {
        self.0.len()
    }
}
