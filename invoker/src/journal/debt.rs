//! What an answered activation still owes: messages to the controller, a record to the database.

/// One kind of debt. Each activation has at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The ack that answers a blocking caller and frees nothing.
    Result,
    /// The ack that frees the slot.
    Slot,
    /// The user event that goes before the slot's ack; nobody is owed it once that has gone.
    Event,
    Record,
}

impl Part {
    const ALL: [Self; 4] = [Self::Result, Self::Slot, Self::Event, Self::Record];

    fn bit(self) -> u8 {
        match self {
            Self::Result => 1,
            Self::Slot => 2,
            Self::Event => 4,
            Self::Record => 8,
        }
    }
}

/// Several kinds of debt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts(pub(super) u8);

impl Parts {
    pub fn contains(self, part: Part) -> bool {
        self.0 & part.bit() != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<Part> for Parts {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        Self(parts.into_iter().fold(0, |all, part| all | part.bit()))
    }
}

impl From<Part> for Parts {
    fn from(part: Part) -> Self {
        Self(part.bit())
    }
}

/// One debt with its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debt {
    pub part: Part,
    /// The topic, or the record's document id.
    pub to: String,
    pub payload: Vec<u8>,
}

/// All that an activation owes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Debts {
    /// None of the acks was sent before, in milliseconds since the epoch.
    pub since_ms: i64,
    /// From then on nobody waits for the acks any more (K-63), in milliseconds since the epoch.
    pub until_ms: i64,
    pub all: Vec<Debt>,
}

impl Debts {
    pub fn parts(&self) -> Parts {
        self.all.iter().map(|debt| debt.part).collect()
    }

    pub fn take(&mut self, part: Part) -> Option<Debt> {
        let at = self.all.iter().position(|debt| debt.part == part)?;
        Some(self.all.swap_remove(at))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.since_ms.to_le_bytes());
        out.extend(self.until_ms.to_le_bytes());
        for Debt { part, to, payload } in &self.all {
            out.push(part.bit());
            for bytes in [to.as_bytes(), payload] {
                let length = u32::try_from(bytes.len()).expect("contents are much smaller than 4 GiB");
                out.extend(length.to_le_bytes());
                out.extend(bytes);
            }
        }
    }

    /// None if the bytes are not debts.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (since, rest) = bytes.split_first_chunk()?;
        let (until, mut rest) = rest.split_first_chunk()?;
        let mut debts = Self {
            since_ms: i64::from_le_bytes(*since),
            until_ms: i64::from_le_bytes(*until),
            all: Vec::new(),
        };
        while let Some((bit, more)) = rest.split_first() {
            let part = Part::ALL.into_iter().find(|part| part.bit() == *bit)?;
            let (to, more) = field(more)?;
            let (payload, more) = field(more)?;
            debts.all.push(Debt {
                part,
                to: std::str::from_utf8(to).ok()?.to_owned(),
                payload: payload.to_vec(),
            });
            rest = more;
        }
        Some(debts)
    }
}

fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}
