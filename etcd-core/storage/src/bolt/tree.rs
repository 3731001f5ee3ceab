//! A tree on its way to the disk: the open node of each level.

use std::io::Write;

use super::layout::Packer;
use super::pages::Pages;
use super::{ELEMENT, FLAG_BRANCH, FLAG_LEAF, LayoutError};

/// An element on its way into a node.
pub(super) enum Item<'a> {
    Row {
        flags: u32,
        key: &'a [u8],
        value: &'a [u8],
    },
    Child {
        key: &'a [u8],
        page: u64,
    },
}

/// The open node of each level of a tree.
#[derive(Default)]
pub(super) struct Tree {
    levels: Vec<Level>,
}

struct Level {
    packer: Packer,
    closed: u64,
    first_key: Vec<u8>,
    /// The elements, their positions still relative to `data`.
    elements: Vec<u8>,
    /// Keys and values.
    data: Vec<u8>,
}

impl Tree {
    fn level(&mut self, level: usize) -> &mut Level {
        while self.levels.len() <= level {
            self.levels.push(Level {
                packer: Packer::new(self.levels.len()),
                closed: 0,
                first_key: Vec::new(),
                elements: Vec::new(),
                data: Vec::new(),
            });
        }
        &mut self.levels[level]
    }

    pub(super) fn push<W: Write>(
        &mut self,
        level: usize,
        item: Item<'_>,
        out: &mut Pages<W>,
    ) -> Result<(), LayoutError> {
        let (key, value) = match item {
            Item::Row { key, value, .. } => (key, value),
            Item::Child { key, .. } => (key, &[][..]),
        };
        let len = key.len() + value.len();
        if !self.level(level).packer.admits(len) {
            self.promote(level, out)?;
        }
        let node = self.level(level);
        if node.packer.count == 0 {
            node.first_key.clear();
            node.first_key.extend_from_slice(key);
        }
        node.packer.add(len);
        let position = node.data.len() as u32;
        let elements = &mut node.elements;
        match item {
            Item::Row { flags, .. } => {
                elements.extend_from_slice(&flags.to_le_bytes());
                elements.extend_from_slice(&position.to_le_bytes());
                elements.extend_from_slice(&(key.len() as u32).to_le_bytes());
                elements.extend_from_slice(&(value.len() as u32).to_le_bytes());
            }
            Item::Child { page, .. } => {
                elements.extend_from_slice(&position.to_le_bytes());
                elements.extend_from_slice(&(key.len() as u32).to_le_bytes());
                elements.extend_from_slice(&page.to_le_bytes());
            }
        }
        node.data.extend_from_slice(key);
        node.data.extend_from_slice(value);
        Ok(())
    }

    /// Writes a level's node and refers to it from the level above.
    fn promote<W: Write>(&mut self, level: usize, out: &mut Pages<W>) -> Result<(), LayoutError> {
        let page = self.write(level, out)?;
        let key = std::mem::take(&mut self.levels[level].first_key);
        self.push(level + 1, Item::Child { key: &key, page }, out)?;
        self.levels[level].first_key = key;
        Ok(())
    }

    /// Writes a level's node; its page.
    fn write<W: Write>(&mut self, level: usize, out: &mut Pages<W>) -> Result<u64, LayoutError> {
        let node = self.level(level);
        let count = node.packer.count;
        let pages = node.packer.close();
        node.closed += 1;
        let (flags, position_at) = match level {
            0 => (FLAG_LEAF, 4),
            _ => (FLAG_BRANCH, 0),
        };
        // A position counts from its element to the data behind the last element.
        for (index, element) in node.elements.chunks_exact_mut(ELEMENT).enumerate() {
            let field = &mut element[position_at..position_at + 4];
            let position = super::meta::le32(field, 0) + ((count - index) * ELEMENT) as u32;
            field.copy_from_slice(&position.to_le_bytes());
        }
        let page = out.node(flags, count as u16, pages, &node.elements, &node.data)?;
        node.elements.clear();
        node.data.clear();
        Ok(page)
    }

    /// Writes what is open; the root's page.
    pub(super) fn finish<W: Write>(mut self, out: &mut Pages<W>) -> Result<u64, LayoutError> {
        let mut level = 0;
        while self.level(level).closed > 0 {
            self.promote(level, out)?;
            level += 1;
        }
        self.write(level, out)
    }
}
