//! Takes the compiler's debug information out of the object.
//!
//! In: the object as linked. Out: the same without DWARF, which is four fifths of it and which
//! nothing reads: types and line numbers are in its BTF.

use anyhow::{Context, Result};
use object::build::elf::{Builder, SectionData};
use object::elf;

/// The object without its DWARF sections and their relocations.
///
/// # Errors
/// When the bytes are not an ELF file.
pub fn strip_dwarf(linked: &[u8]) -> Result<Vec<u8>> {
    let mut object = Builder::read(linked).context("the linker's output is not ELF")?;
    for section in &mut object.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug") || name.starts_with(".rel.debug");
    }
    // Symbols of the deleted sections.
    object.delete_orphans();
    // LLVM keeps section names and symbol names in one table, the writer wants two.
    if !object
        .sections
        .iter()
        .any(|it| matches!(it.data, SectionData::SectionString))
    {
        let names = object.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    object
        .write(&mut stripped)
        .context("cannot write the stripped object")?;
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use object::Endianness;

    use super::*;

    /// An ELF file with these sections, each with one byte in it.
    fn elf_with(names: [&str; 4]) -> Vec<u8> {
        let mut object = Builder::new(Endianness::Little, true);
        for name in names {
            let section = object.sections.add();
            section.name = name.to_owned().into_bytes().into();
            section.sh_type = elf::SHT_PROGBITS;
            section.data = SectionData::Data(vec![1].into());
        }
        let names = object.sections.add();
        names.name = ".strtab".into();
        names.sh_type = elf::SHT_STRTAB;
        names.data = SectionData::SectionString;
        let mut bytes = Vec::new();
        object.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn dwarf_goes_and_btf_stays() {
        let stripped = strip_dwarf(&elf_with([".text", ".debug_info", ".BTF", ".debug_str"]));
        let stripped = stripped.unwrap();
        let object = Builder::read(stripped.as_slice()).unwrap();
        let names: Vec<String> = object
            .sections
            .iter()
            .map(|it| it.name.to_string())
            .collect();
        assert_eq!(names[..2], [".text", ".BTF"]);
        assert!(
            !names.iter().any(|name| name.starts_with(".debug")),
            "{names:?}"
        );
    }

    #[test]
    fn what_is_not_elf_is_an_error() {
        assert!(strip_dwarf(b"not an object").is_err());
    }
}
