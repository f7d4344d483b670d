//! Where the running kernel keeps the fields of its structures.
//!
//! In: the kernel's BTF (`/sys/kernel/btf/vmlinux`). Out: byte offsets by `struct` and field path.
//! Format: Documentation/bpf/btf.rst (Linux 6.1); only what an offset needs is read.

use std::collections::HashMap;

/// Where the kernel tells its types.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// `BTF_MAGIC` in this machine's byte order.
const MAGIC: u16 = 0xeb9f;
/// Structures may nest; deeper than this is not BTF of a kernel.
const DEPTH_MAX: usize = 16;

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Why an offset is not known.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    /// The bytes are not BTF of this machine's byte order.
    #[error("not BTF: {0}")]
    Malformed(&'static str),
    /// The kernel has no such structure.
    #[error("this kernel has no struct {0}")]
    NoStruct(String),
    /// The structure has no such field.
    #[error("this kernel's struct {0} has no field {1}")]
    NoField(String, String),
}

/// A view of a kernel's types.
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Byte position of each type, by id; id 0 is `void`.
    types: Vec<usize>,
    structs: HashMap<String, u32>,
}

struct Type {
    name: u32,
    kind: u32,
    /// Entries that follow: members, parameters, values.
    entries: u32,
    /// Offsets of members carry bit-field sizes in their top byte.
    bitfields: bool,
    /// Size, or the id of another type.
    size_or_type: u32,
}

impl Btf {
    /// Reads all types once and indexes the structures by name.
    ///
    /// # Errors
    ///
    /// [`BtfError::Malformed`] if the bytes are not whole BTF.
    pub fn parse(data: Vec<u8>) -> Result<Btf, BtfError> {
        let header = |at: usize| read_u32(&data, at).ok_or(BtfError::Malformed("header cut off"));
        if data.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(BtfError::Malformed("wrong magic number"));
        }
        let start = header(4)? as usize;
        let types_at = start + header(8)? as usize;
        let types_end = types_at + header(12)? as usize;
        let strings = start + header(16)? as usize;
        let mut btf = Btf {
            data,
            strings,
            types: vec![0],
            structs: HashMap::new(),
        };
        let mut at = types_at;
        while at < types_end {
            let entry = btf.type_at(at).ok_or(BtfError::Malformed("type cut off"))?;
            let id = u32::try_from(btf.types.len())
                .map_err(|_| BtfError::Malformed("too many types"))?;
            btf.types.push(at);
            if entry.kind == KIND_STRUCT && entry.name != 0 {
                let name = btf.string(entry.name).to_owned();
                btf.structs.entry(name).or_insert(id);
            }
            at += entry.length().ok_or(BtfError::Malformed("unknown kind"))?;
        }
        Ok(btf)
    }

    /// Byte offset of a field, given as `field` or `field.inner`, from the start of a structure.
    /// Fields of anonymous members are found as C finds them.
    ///
    /// # Errors
    ///
    /// [`BtfError::NoStruct`] or [`BtfError::NoField`], naming what is missing.
    pub fn offset(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::NoField(structure.to_owned(), path.to_owned());
        let mut id = *self
            .structs
            .get(structure)
            .ok_or_else(|| BtfError::NoStruct(structure.to_owned()))?;
        let mut bits = 0;
        for field in path.split('.') {
            let (offset, inner) = self.member(id, field, 0).ok_or_else(missing)?;
            bits += offset;
            id = inner;
        }
        if bits % 8 == 0 {
            Ok(bits / 8)
        } else {
            Err(missing())
        }
    }

    /// Bit offset and type of a member of a structure or union.
    fn member(&self, id: u32, field: &str, depth: usize) -> Option<(u32, u32)> {
        let (at, entry) = self.resolve(id)?;
        if !matches!(entry.kind, KIND_STRUCT | KIND_UNION) || depth > DEPTH_MAX {
            return None;
        }
        for index in 0..entry.entries as usize {
            let member = at + 12 + index * 12;
            let name = read_u32(&self.data, member)?;
            let inner = read_u32(&self.data, member + 4)?;
            let offset = read_u32(&self.data, member + 8)?;
            let bits = if entry.bitfields {
                offset & 0x00ff_ffff
            } else {
                offset
            };
            if name == 0 {
                if let Some((deeper, found)) = self.member(inner, field, depth + 1) {
                    return Some((bits + deeper, found));
                }
            } else if self.string(name) == field {
                return Some((bits, inner));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<(usize, Type)> {
        for _ in 0..DEPTH_MAX {
            let at = *self.types.get(id as usize)?;
            let entry = self.type_at(at)?;
            match entry.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = entry.size_or_type;
                }
                _ => return Some((at, entry)),
            }
        }
        None
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = read_u32(&self.data, at + 4)?;
        Some(Type {
            name: read_u32(&self.data, at)?,
            kind: (info >> 24) & 0x1f,
            entries: info & 0xffff,
            bitfields: info >> 31 == 1,
            size_or_type: read_u32(&self.data, at + 8)?,
        })
    }

    fn string(&self, offset: u32) -> &str {
        let bytes = self
            .data
            .get(self.strings + offset as usize..)
            .unwrap_or_default();
        let end = bytes
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(bytes.len());
        std::str::from_utf8(bytes.get(..end).unwrap_or_default()).unwrap_or_default()
    }
}

impl Type {
    /// Bytes of this type with its entries; `None` for a kind that is not known.
    fn length(&self) -> Option<usize> {
        let entries = self.entries as usize;
        let extra = match self.kind {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => entries * 12,
            KIND_ENUM | KIND_FUNC_PROTO => entries * 8,
            2 | 7..=12 | 16 | 18 => 0,
            _ => return None,
        };
        Some(12 + extra)
    }
}

fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; struct { long b; }; struct inner c; }`, `struct inner { int d, e; }`.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0c\0inner\0d\0e\0int\0";
        let at = |name: &str| {
            let with_nul = [name.as_bytes(), b"\0"].concat();
            let found = strings
                .windows(with_nul.len())
                .position(|window| window == with_nul);
            u32::try_from(found.unwrap()).unwrap()
        };
        let kind = |kind: u32, entries: u32| kind << 24 | entries;
        let types: Vec<u32> = [
            vec![at("int"), kind(KIND_INT, 0), 4, 32],       // 1
            vec![0, kind(KIND_STRUCT, 1), 8, at("b"), 1, 0], // 2
            vec![
                at("inner"),
                kind(KIND_STRUCT, 2),
                8,
                at("d"),
                1,
                0,
                at("e"),
                1,
                32,
            ], // 3
            vec![
                at("outer"),
                kind(KIND_STRUCT, 3),
                24,
                at("a"),
                1,
                0,
                0,
                2,
                64,
                at("c"),
                3,
                128,
            ], // 4
        ]
        .concat();
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut data = MAGIC.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        let types_bytes = u32::try_from(types.len()).unwrap();
        for word in [
            24,
            0,
            types_bytes,
            types_bytes,
            u32::try_from(strings.len()).unwrap(),
        ] {
            data.extend(u32::to_ne_bytes(word));
        }
        [data, types, strings.to_vec()].concat()
    }

    #[test]
    fn nested_and_anonymous_fields_are_found() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.offset("outer", "a"), Ok(0));
        assert_eq!(btf.offset("outer", "b"), Ok(8));
        assert_eq!(btf.offset("outer", "c.e"), Ok(20));
    }

    #[test]
    fn what_is_missing_is_named() {
        let btf = Btf::parse(sample()).unwrap();
        let error = btf.offset("outer", "zz").unwrap_err();
        assert_eq!(
            error.to_string(),
            "this kernel's struct outer has no field zz"
        );
        let error = btf.offset("nope", "a").unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no struct nope");
    }

    #[test]
    fn cut_and_foreign_bytes_are_errors() {
        let whole = sample();
        assert!(Btf::parse(b"\x7fELF".to_vec()).is_err());
        for end in 0..60 {
            assert!(Btf::parse(whole[..end].to_vec()).is_err(), "cut at {end}");
        }
    }
}
