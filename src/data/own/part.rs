//! Training, validation and test: which part a name stands for.

/// Something for each part that there is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parts<T> {
    pub train: T,
    pub val: Option<T>,
    pub test: Option<T>,
}

impl<T> Parts<T> {
    /// The same of what is made of each part.
    pub fn try_map<U, E>(&self, mut make: impl FnMut(&T) -> Result<U, E>) -> Result<Parts<U>, E> {
        Ok(Parts {
            train: make(&self.train)?,
            val: self.val.as_ref().map(&mut make).transpose()?,
            test: self.test.as_ref().map(&mut make).transpose()?,
        })
    }
}

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Train,
    Val,
    Test,
}

impl Part {
    pub const ALL: [Self; 3] = [Part::Train, Part::Val, Part::Test];

    /// What it is called, the usual name first.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Part::Train => &["train", "training"],
            Part::Val => &["val", "valid", "validation", "dev"],
            Part::Test => &["test", "testing"],
        }
    }

    /// The part whose name is the first or the last word of `name`, in upper or lower case.
    pub fn of(name: &str) -> Option<Self> {
        let words = words(name);
        let ends = [words.last(), words.first()];
        ends.into_iter().flatten().find_map(|word| Self::ALL.into_iter().find(|part| part.names().contains(&word.as_str())))
    }
}

/// The words of a file's name, in lower case.
pub(super) fn words(name: &str) -> Vec<String> {
    let word = |word: &str| (!word.is_empty()).then(|| word.to_lowercase());
    name.split(['_', '-', '.', ' ']).filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_part_they_are() {
        for (name, part) in [
            ("GunPoint_TRAIN", Some(Part::Train)),
            ("train", Some(Part::Train)),
            ("X_test", Some(Part::Test)),
            ("test-labels", Some(Part::Test)),
            ("Validation", Some(Part::Val)),
            ("UnitTest", None),
            ("trains", None),
            ("a_train_b", None),
            ("", None),
        ] {
            assert_eq!(Part::of(name), part, "{name}");
        }
    }
}
