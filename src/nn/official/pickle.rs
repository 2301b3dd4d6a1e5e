//! Python's pickles as a tree of values. Nothing in one is ever run: a call stands in the tree as the name of what would be called.

/// Where a value stands in [`Pickle::values`].
pub(super) type Id = usize;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// None, a boolean, a float, bytes, a number above 2^63: nothing that a tensor is made of.
    Plain,
    Int(i64),
    Text(String),
    /// A tuple, list or set.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function, by its full name.
    Global(String),
    /// What a class or function would make of its arguments, and the entries that it would be given.
    Object {
        class: String,
        args: Id,
        entries: Vec<(Id, Id)>,
    },
    /// What the program that wrote the pickle keeps elsewhere.
    Outside(Id),
}

/// A pickle that was read to its end.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    /// The value of the whole.
    pub root: Id,
}

impl Pickle {
    /// The value at a place.
    pub fn value(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// The text at a place.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members of the tuple or list at a place.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::Sequence(members) => Some(members),
            _ => None,
        }
    }

    /// The whole numbers, none of them negative, of the tuple or list at a place.
    pub fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        self.sequence(id)?.iter().map(|&id| self.size(id)).collect()
    }

    /// The whole number at a place, where it is not negative.
    pub fn size(&self, id: Id) -> Option<usize> {
        match self.value(id) {
            Value::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Reads a pickle of protocol 2 to 5.
    ///
    /// Every value is made by one instruction, so the tree is no larger than the pickle, however deep it is.
    ///
    /// # Errors
    /// What is wrong with it, and at which byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut machine = Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: Vec::new() };
        loop {
            let start = machine.at;
            match machine.step() {
                Some(Step::On) => {}
                Some(Step::Done(root)) => return Ok(Pickle { values: machine.values, root }),
                Some(Step::Unknown(code)) => {
                    return Err(format!("has the instruction {code:#04x} at byte {start} of its pickle, which is not read"));
                }
                None => return Err(format!("is damaged at byte {start} of its pickle")),
            }
        }
    }
}

/// What came of an instruction.
enum Step {
    On,
    Done(Id),
    Unknown(u8),
}

/// What a pickle is written for: a machine with a stack, marks in it, and a memory.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: Vec<Option<Id>>,
}

impl<'a> Machine<'a> {
    /// One instruction, by the codes of Python's `pickletools`; `None` where it makes no sense.
    fn step(&mut self) -> Option<Step> {
        let code = self.take(1)?[0];
        match code {
            // PROTO, FRAME.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'.' => return Some(Step::Done(self.pop()?)),
            // None, booleans, a float.
            b'N' | 0x88 | 0x89 => self.push(Value::Plain),
            b'G' => self.plain(8)?,
            b'J' | b'K' | b'M' | 0x8a | 0x8b => self.number(code)?,
            b'X' | 0x8c | 0x8d | b'T' | b'U' => self.text(code)?,
            b'B' | b'C' | 0x8e | 0x96 => {
                let length = self.length(code)?;
                self.plain(length)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.above_mark()?),
            b'2' => self.stack.push(*self.stack.last()?),
            b')' | b']' | 0x8f => self.push(Value::Sequence(Vec::new())),
            0x85..=0x87 => {
                let members = self.stack.split_off(self.stack.len().checked_sub(usize::from(code - 0x84))?);
                self.push(Value::Sequence(members));
            }
            b't' | b'l' | 0x91 => {
                let members = self.above_mark()?;
                self.push(Value::Sequence(members));
            }
            b'a' => {
                let member = self.pop()?;
                self.extend(vec![member])?;
            }
            b'e' | 0x90 => {
                let members = self.above_mark()?;
                self.extend(members)?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let members = self.above_mark()?;
                self.push(Value::Dict(pairs(&members)?));
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[key, value])?;
            }
            b'u' => {
                let members = self.above_mark()?;
                self.insert(&members)?;
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(code)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(format!("{module}.{name}")));
            }
            0x93 => self.global()?,
            b'R' | 0x81 | 0x92 => self.call(code)?,
            // BUILD: an object's attributes, which no tensor is made of.
            b'b' => {
                self.pop()?;
                self.stack.last()?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Outside(id));
            }
            _ => return Some(Step::Unknown(code)),
        }
        Some(Step::On)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let found = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(found)
    }

    /// The bytes of a line.
    fn line(&mut self) -> Option<String> {
        let length = self.bytes.get(self.at..)?.iter().position(|&byte| byte == b'\n')?;
        let line = self.take(length + 1)?;
        String::from_utf8(line[..length].into()).ok()
    }

    /// A number of `count` bytes, the lowest first.
    fn unsigned(&mut self, count: usize) -> Option<u64> {
        Some(self.take(count)?.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    /// The length of a text or of bytes, which stands before them.
    fn length(&mut self, code: u8) -> Option<usize> {
        let count = match code {
            0x8c | b'U' | b'C' => 1,
            b'X' | b'T' | b'B' => 4,
            _ => 8,
        };
        self.unsigned(count)?.try_into().ok()
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// Pops what stands above the last mark.
    fn pop(&mut self) -> Option<Id> {
        // What a mark protects is not popped.
        (self.stack.len() > self.marks.last().copied().unwrap_or(0)).then(|| self.stack.pop())?
    }

    fn above_mark(&mut self) -> Option<Vec<Id>> {
        let mark = self.marks.pop()?;
        (mark <= self.stack.len()).then(|| self.stack.split_off(mark))
    }

    fn plain(&mut self, length: usize) -> Option<()> {
        self.take(length)?;
        self.push(Value::Plain);
        Some(())
    }

    fn number(&mut self, code: u8) -> Option<()> {
        let number = match code {
            b'J' => Some(i64::from(self.unsigned(4)? as u32 as i32)),
            b'K' => Some(self.unsigned(1)? as i64),
            b'M' => Some(self.unsigned(2)? as i64),
            _ => {
                let length = self.unsigned(if code == 0x8a { 1 } else { 4 })?;
                let bytes = self.take(length.try_into().ok()?)?;
                let sign = if bytes.last().is_some_and(|top| top & 0x80 != 0) { -1 } else { 0 };
                (bytes.len() <= 8).then(|| bytes.iter().rev().fold(sign, |sum, &byte| sum << 8 | i64::from(byte)))
            }
        };
        self.push(number.map_or(Value::Plain, Value::Int));
        Some(())
    }

    fn text(&mut self, code: u8) -> Option<()> {
        let length = self.length(code)?;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.push(Value::Text(text));
        Some(())
    }

    /// Adds members to the sequence on top; what stands there instead is given none.
    fn extend(&mut self, mut members: Vec<Id>) -> Option<()> {
        if let Value::Sequence(all) = &mut self.values[*self.stack.last()?] {
            all.append(&mut members);
        }
        Some(())
    }

    /// Adds keys and their values to the dictionary or object on top.
    fn insert(&mut self, members: &[Id]) -> Option<()> {
        let mut new = pairs(members)?;
        if let Value::Dict(entries) | Value::Object { entries, .. } = &mut self.values[*self.stack.last()?] {
            entries.append(&mut new);
        }
        Some(())
    }

    /// Keeps the value on top under a number, or brings one back.
    fn remember(&mut self, code: u8) -> Option<()> {
        let number = match code {
            0x94 => self.memo.len(),
            b'q' | b'h' => self.unsigned(1)? as usize,
            _ => self.unsigned(4)?.try_into().ok()?,
        };
        if matches!(code, b'h' | b'j') {
            self.stack.push((*self.memo.get(number)?)?);
            return Some(());
        }
        // Each instruction writes one number: a higher one than there are instructions is no pickler's.
        if number > self.bytes.len() {
            return None;
        }
        self.memo.resize(self.memo.len().max(number + 1), None);
        self.memo[number] = Some(*self.stack.last()?);
        Some(())
    }

    /// A class or function whose module and name stand on the stack.
    fn global(&mut self) -> Option<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name]) else { return None };
        self.push(Value::Global(format!("{module}.{name}")));
        Some(())
    }

    /// Notes a call, which is not made.
    fn call(&mut self, code: u8) -> Option<()> {
        if code == 0x92 {
            // Arguments by name.
            self.pop()?;
        }
        let (args, callee) = (self.pop()?, self.pop()?);
        let class = match &self.values[callee] {
            Value::Global(name) => name.clone(),
            // What another call would have made.
            Value::Object { class, .. } => class.clone(),
            _ => return None,
        };
        self.push(Value::Object { class, args, entries: Vec::new() });
        Some(())
    }
}

/// Keys and values that follow each other.
fn pairs(members: &[Id]) -> Option<Vec<(Id, Id)>> {
    let (pairs, rest) = members.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|&[key, value]| (key, value)).collect())
}
