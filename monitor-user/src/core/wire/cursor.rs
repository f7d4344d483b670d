//! A position in untrusted bytes, moved by reading big-endian integers and counted vectors.
//!
//! In: bytes. Out: values, or `None` where the bytes end first; nothing is copied.

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A vector behind its length of one byte.
    pub(super) fn vec8(&mut self) -> Option<&'a [u8]> {
        let size = self.u8()?;
        self.take(size.into())
    }

    /// A vector behind its length of two bytes.
    pub(super) fn vec16(&mut self) -> Option<&'a [u8]> {
        let size = self.u16()?;
        self.take(size.into())
    }

    /// A variable-length integer of QUIC, RFC 9000 §16: below 2^62.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let first = self.0.first()?;
        let size = 1_usize << (first >> 6);
        let mut value = [0; 8];
        let bytes = self.take(size)?;
        value.get_mut(8 - size..)?.copy_from_slice(bytes);
        let bits = size * 8 - 2;
        Some(u64::from_be_bytes(value) & ((1 << bits) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_varint(bytes: &[u8], expect: Option<u64>) {
        assert_eq!(Cursor(bytes).varint(), expect);
    }

    #[test]
    fn varints_are_those_of_the_specification() {
        // The examples of RFC 9000 §A.1.
        let eight = [0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c];
        check_varint(&eight, Some(151_288_809_941_952_652));
        check_varint(&[0x9d, 0x7f, 0x3e, 0x7d], Some(494_878_333));
        check_varint(&[0x7b, 0xbd], Some(15_293));
        check_varint(&[0x25], Some(37));
        check_varint(&[0x40, 0x25], Some(37));
        check_varint(&[0xff; 8], Some((1 << 62) - 1));
        check_varint(&[0xff; 7], None);
        check_varint(&[], None);
    }

    #[test]
    fn vectors_end_where_they_say() {
        let mut cursor = Cursor(&[2, 1, 2, 0, 1, 3, 9]);
        assert_eq!(cursor.vec8(), Some(&[1, 2][..]));
        assert_eq!(cursor.vec16(), Some(&[3][..]));
        assert_eq!(cursor.vec8(), None);
        assert_eq!(Cursor(&[0, 2, 1]).vec16(), None);
    }
}
