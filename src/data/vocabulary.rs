//! The symbols of a token data set and their ids.

use crate::error::{Error, Result};
use std::collections::HashMap;

/// Symbols and their ids: padding 0, unknown 1, end of sequence 2, and behind them the data set's own in their given order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    symbols: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// The id of what stands behind the end of a sequence in a batch.
    pub const PAD: u8 = 0;
    /// The id of a symbol that the vocabulary lacks.
    pub const UNK: u8 = 1;
    /// The id of the mark at the end of every sequence.
    pub const EOS: u8 = 2;
    /// How the three special symbols are shown.
    pub const SPECIALS: [&str; 3] = ["<pad>", "<unk>", "<eos>"];

    /// The vocabulary of the special symbols and then `symbols`, as many as there are. Of up to 256 a data set keeps ids in a byte each.
    ///
    /// # Errors
    /// `Config` where a symbol comes twice.
    pub fn new<S: Into<String>>(symbols: impl IntoIterator<Item = S>) -> Result<Self> {
        let symbols: Vec<String> = symbols.into_iter().map(Into::into).collect();
        let vocabulary = Self::distinct(&symbols);
        // Of a symbol that comes twice, only the last place is found again.
        match vocabulary.symbols.iter().zip(0..=u32::MAX).find(|(symbol, at)| vocabulary.ids.get(*symbol) != Some(at)) {
            Some((symbol, _)) => Err(Error::config("vocabulary", format!("{symbol:?}"), "this symbol comes twice: give each once")),
            None => Ok(vocabulary),
        }
    }

    /// The same of symbols that are known to be distinct.
    pub(super) fn distinct<S: AsRef<str>>(symbols: &[S]) -> Self {
        let symbols: Vec<String> = Self::SPECIALS.into_iter().chain(symbols.iter().map(AsRef::as_ref)).map(String::from).collect();
        let ids = symbols.iter().cloned().zip(0..=u32::MAX).collect();
        Vocabulary { symbols, ids }
    }

    /// Whether every id fits in a byte.
    pub(super) fn fits_bytes(&self) -> bool {
        self.len() <= 256
    }

    /// The number of symbols, the special ones included: one more than the largest id.
    #[allow(clippy::len_without_is_empty, reason = "the special symbols are always there")]
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// The id of `symbol`, or `None` where the vocabulary lacks it.
    pub fn id(&self, symbol: &str) -> Option<u32> {
        self.ids.get(symbol).copied()
    }

    /// The symbol of `id`, or `None` where no symbol has it.
    pub fn symbol(&self, id: u32) -> Option<&str> {
        self.symbols.get(id as usize).map(String::as_str)
    }

    /// The ids of `symbols`, [`UNK`](Self::UNK) for those that the vocabulary lacks.
    pub fn encode<'a>(&self, symbols: impl IntoIterator<Item = &'a str>) -> Vec<u32> {
        symbols.into_iter().map(|symbol| self.id(symbol).unwrap_or(Self::UNK.into())).collect()
    }

    /// The symbols of `ids` for display, blanks between them, `<unk>` for an id that no symbol has.
    pub fn decode<T: Copy + Into<u32>>(&self, ids: &[T]) -> String {
        let symbols: Vec<&str> = ids.iter().map(|&id| self.symbol(id.into()).unwrap_or(Self::SPECIALS[usize::from(Self::UNK)])).collect();
        symbols.join(" ")
    }
}
