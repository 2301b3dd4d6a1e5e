//! TreeSum: sums over numbered leaves in an order that their numbers alone give, wherever the leaves are.
//!
//! Node (level, index) of the tree covers the leaves from index 2^level up to (index + 1) 2^level, and its sum is that of its left half plus
//! that of its right half. What is beyond the last leaf, or has no value, is left out. Whoever holds neighbouring leaves sums up the largest
//! nodes that they make; whoever holds these nodes for all leaves sums up the rest. So the additions are the same ones however the leaves
//! are spread, and of 2^k leaves on 2^j holders each has one node to send.

use std::ops::Range;

use crate::error::Result;

/// A node of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    level: u32,
    index: usize,
}

/// The sums of some neighbouring leaves, by as few nodes as there can be.
#[derive(Debug)]
pub(super) struct TreeSum<T> {
    nodes: Vec<(Node, Option<T>)>,
}

impl<T> Default for TreeSum<T> {
    fn default() -> Self {
        TreeSum { nodes: Vec::new() }
    }
}

impl<T> TreeSum<T> {
    /// Adds the leaf that follows those so far.
    pub fn push_leaf(&mut self, number: usize, value: Option<T>, add: impl FnMut(T, T) -> Result<T>) -> Result<()> {
        self.push(Node { level: 0, index: number }, value, add)
    }

    /// Adds the node that follows those so far.
    pub fn push(&mut self, mut node: Node, mut value: Option<T>, mut add: impl FnMut(T, T) -> Result<T>) -> Result<()> {
        let left_of = |node: Node| node.index.checked_sub(1).filter(|left| left % 2 == 0).map(|index| Node { index, ..node });
        while let (Some(left), Some((last, _))) = (left_of(node), self.nodes.last())
            && left == *last
        {
            value = merged(self.nodes.pop().and_then(|(_, earlier)| earlier), value, &mut add)?;
            node = Node { level: node.level + 1, index: node.index / 2 };
        }
        self.nodes.push((node, value));
        Ok(())
    }

    /// The sum over all leaves, once all were added; `None` where none of them has a value.
    pub fn finish(self, mut add: impl FnMut(T, T) -> Result<T>) -> Result<Option<T>> {
        // What is left are nodes of falling levels: those on the way to the last leaf.
        self.nodes.into_iter().rev().try_fold(None, |right, (_, left)| merged(left, right, &mut add))
    }

    /// The sums of a part of every value, which `take` takes out of it.
    pub fn split(&mut self, mut take: impl FnMut(&mut T) -> Option<T>) -> TreeSum<T> {
        TreeSum { nodes: self.nodes.iter_mut().map(|(node, value)| (*node, value.as_mut().and_then(&mut take))).collect() }
    }

    /// The nodes and their sums, in the order of the leaves.
    pub fn into_nodes(self) -> impl Iterator<Item = (Node, Option<T>)> {
        self.nodes.into_iter()
    }
}

/// The nodes that neighbouring leaves make.
pub(super) fn cover(leaves: Range<usize>) -> Result<Vec<Node>> {
    let mut sum = TreeSum::<()>::default();
    leaves.into_iter().try_for_each(|leaf| sum.push_leaf(leaf, None, |(), ()| Ok(())))?;
    Ok(sum.into_nodes().map(|(node, _)| node).collect())
}

fn merged<T>(left: Option<T>, right: Option<T>, add: &mut impl FnMut(T, T) -> Result<T>) -> Result<Option<T>> {
    match (left, right) {
        (Some(left), Some(right)) => add(left, right).map(Some),
        (left, right) => Ok(left.or(right)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum as a text, which tells its order.
    fn written(left: String, right: String) -> Result<String> {
        Ok(format!("({left}+{right})"))
    }

    fn leaf(number: usize, absent: usize) -> Option<String> {
        (absent >> number & 1 == 0).then(|| number.to_string())
    }

    fn together(leaves: usize, absent: usize) -> Option<String> {
        let mut sum = TreeSum::default();
        (0..leaves).for_each(|number| sum.push_leaf(number, leaf(number, absent), written).unwrap());
        sum.finish(written).unwrap()
    }

    #[test]
    fn the_order_is_that_of_halves() {
        assert_eq!(together(1, 0).unwrap(), "0");
        assert_eq!(together(4, 0).unwrap(), "((0+1)+(2+3))");
        assert_eq!(together(7, 0).unwrap(), "(((0+1)+(2+3))+((4+5)+6))");
        assert_eq!(together(7, 0b010_0110).unwrap(), "((0+3)+(4+6))");
        assert_eq!(together(3, 0b111), None);
    }

    #[test]
    fn it_does_not_depend_on_who_holds_the_leaves() {
        for leaves in 1..20 {
            for absent in [0, 1, 0b1010_0101, 0b11_1100, usize::MAX] {
                for cuts in 0..64usize {
                    // Up to seven holders, some with nothing.
                    let bounds: Vec<usize> = (0..6).map(|cut| if cuts >> cut & 1 == 1 { leaves * (cut + 1) / 7 } else { 0 }).collect();
                    let mut bounds: Vec<usize> = bounds.into_iter().chain([0, leaves]).collect();
                    bounds.sort_unstable();
                    let mut all = TreeSum::default();
                    for ends in bounds.windows(2) {
                        let mut own = TreeSum::default();
                        (ends[0]..ends[1]).for_each(|number| own.push_leaf(number, leaf(number, absent), written).unwrap());
                        let nodes: Vec<_> = own.into_nodes().collect();
                        assert_eq!(cover(ends[0]..ends[1]).unwrap(), nodes.iter().map(|(node, _)| *node).collect::<Vec<_>>());
                        nodes.into_iter().for_each(|(node, value)| all.push(node, value, written).unwrap());
                    }
                    assert_eq!(all.finish(written).unwrap(), together(leaves, absent), "{leaves} leaves, {bounds:?}");
                }
            }
        }
    }

    #[test]
    fn aligned_holders_have_one_node_each() {
        for holder in 0..8 {
            assert_eq!(cover(holder * 4..holder * 4 + 4).unwrap(), [Node { level: 2, index: holder }]);
        }
    }
}
