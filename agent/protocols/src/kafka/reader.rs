//! A cursor over what was captured of a message: Kafka's primitive types, in both encodings.
//!
//! It tells what is not there because it was not captured from what can't be. Nothing is allocated.

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It goes on, but the rest was not captured.
    Cut,
    /// No message has this.
    Broken,
}

pub(super) type Read<T> = Result<T, Stop>;

/// Where in a message reading is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    /// What is left of the captured bytes.
    bytes: &'a [u8],
    /// Bytes of the message behind those, which were not captured.
    missing: u64,
    /// Compact types and tagged fields (KIP-482).
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// `bytes` are the beginning of `length` ones.
    pub(super) fn new(bytes: &'a [u8], length: u64) -> Self {
        let most = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        let bytes = bytes.get(..most).unwrap_or(bytes);
        Self { bytes, missing: length - bytes.len() as u64, flexible: false }
    }

    pub(super) fn flexible(self, flexible: bool) -> Self {
        Self { flexible, ..self }
    }

    /// Bytes up to the message's end, captured or not.
    pub(super) fn left(&self) -> u64 {
        self.bytes.len() as u64 + self.missing
    }

    /// What was captured of what is left.
    pub(super) fn captured(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        if let Some((taken, rest)) = self.bytes.split_at_checked(count) {
            self.bytes = rest;
            return Ok(taken);
        }
        Err(if count as u64 <= self.left() { Stop::Cut } else { Stop::Broken })
    }

    /// Passes over bytes that needn't have been captured.
    pub(super) fn skip(&mut self, count: u64) -> Read<()> {
        if count > self.left() {
            return Err(Stop::Broken);
        }
        self.cut_off(count);
        Ok(())
    }

    /// The next bytes as a message of their own, which needn't all have been captured.
    pub(super) fn part(&mut self, count: u64) -> Read<Self> {
        if count > self.left() {
            return Err(Stop::Broken);
        }
        let part = Self::new(self.bytes, count);
        self.cut_off(count);
        Ok(part)
    }

    fn cut_off(&mut self, count: u64) {
        let captured = usize::try_from(count).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes = self.bytes.get(captured..).unwrap_or_default();
        self.missing -= count - captured as u64;
    }

    fn array_of<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().ok().ok_or(Stop::Broken)
    }

    pub(super) fn i8(&mut self) -> Read<i8> {
        self.array_of().map(i8::from_be_bytes)
    }

    pub(super) fn i16(&mut self) -> Read<i16> {
        self.array_of().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Read<i32> {
        self.array_of().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Read<i64> {
        self.array_of().map(i64::from_be_bytes)
    }

    pub(super) fn uuid(&mut self) -> Read<[u8; 16]> {
        self.array_of()
    }

    /// An `UNSIGNED_VARINT`: at most five bytes.
    pub(super) fn uvarint(&mut self) -> Read<u32> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array_of()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok().ok_or(Stop::Broken);
            }
        }
        Err(Stop::Broken)
    }

    /// A `VARLONG` (zigzag): at most ten bytes.
    pub(super) fn varlong(&mut self) -> Read<i64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let [byte] = self.array_of()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Stop::Broken)
    }

    /// The length of something that may be null; `short`: it has 16 bits where types aren't compact.
    fn length(&mut self, short: bool) -> Read<Option<u32>> {
        if self.flexible {
            return Ok(self.uvarint()?.checked_sub(1));
        }
        let length = if short { i32::from(self.i16()?) } else { self.i32()? };
        match length {
            -1 => Ok(None),
            length => u32::try_from(length).map(Some).ok().ok_or(Stop::Broken),
        }
    }

    /// How many elements an array has; `None`: null. Each has a byte at least, so more than there are bytes
    /// can't be.
    pub(super) fn array(&mut self) -> Read<Option<u32>> {
        let count = self.length(false)?;
        if count.is_some_and(|count| u64::from(count) > self.left()) {
            return Err(Stop::Broken);
        }
        Ok(count)
    }

    /// A string's bytes; `None`: null.
    pub(super) fn string(&mut self) -> Read<Option<&'a [u8]>> {
        let Some(length) = self.length(true)? else { return Ok(None) };
        self.take(usize::try_from(length).unwrap_or(usize::MAX)).map(Some)
    }

    /// A string that is in the older encoding in every version: the client id of a request's header.
    pub(super) fn old_string(&mut self) -> Read<Option<&'a [u8]>> {
        let flexible = std::mem::replace(&mut self.flexible, false);
        let string = self.string();
        self.flexible = flexible;
        string
    }

    /// Passes over a string.
    pub(super) fn skip_string(&mut self) -> Read<()> {
        let length = self.length(true)?;
        self.skip(u64::from(length.unwrap_or(0)))
    }

    /// Bytes or records, which needn't all have been captured; `None`: null.
    pub(super) fn bytes(&mut self) -> Read<Option<Self>> {
        let Some(length) = self.length(false)? else { return Ok(None) };
        self.part(u64::from(length)).map(Some)
    }

    /// Passes over an array of elements that have the same size.
    pub(super) fn skip_array(&mut self, element_bytes: u64) -> Read<()> {
        let count = self.length(false)?;
        self.skip(u64::from(count.unwrap_or(0)).saturating_mul(element_bytes))
    }

    /// Passes over the tagged fields, which only flexible messages have.
    pub(super) fn tags(&mut self) -> Read<()> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.uvarint()?;
        for _ in 0..count {
            self.uvarint()?;
            let size = self.uvarint()?;
            self.skip(u64::from(size))?;
        }
        Ok(())
    }
}
