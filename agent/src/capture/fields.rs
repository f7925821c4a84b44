//! Kernel structure offsets from the kernel's own BTF.

use std::path::Path;

use btfparse::{Offset, Readable, TypeInformation};
use wirespan_ebpf::{FIELDS, Field, KernelFields};

/// A field that the programs need could not be found.
#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    /// The kernel has no BTF.
    #[error("can't read the kernel's type information {path} (CONFIG_DEBUG_INFO_BTF): {message}")]
    Btf {
        /// The file.
        path: String,
        /// What went wrong.
        message: String,
    },
    /// A structure or member is not there.
    #[error("this kernel has no field {structure}.{path}, which the capture programs need")]
    Missing {
        /// The structure.
        structure: &'static str,
        /// The member.
        path: &'static str,
    },
}

/// What was found: the offsets in [`FIELDS`] order, and the mask of the one bit-field among them.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) offsets: Vec<u32>,
    pub(super) kern_sock_mask: u32,
}

struct Bytes(Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.0.get(begin..).and_then(|rest| rest.get(..buffer.len()));
        match bytes {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(btfparse::Error::new(btfparse::ErrorKind::IOError, "read past the end")),
        }
    }
}

/// Looks up all of [`FIELDS`].
pub(super) fn find(path: &Path) -> Result<Found, FieldError> {
    let error = |message: String| FieldError::Btf { path: path.display().to_string(), message };
    let bytes = std::fs::read(path).map_err(|cause| error(cause.to_string()))?;
    let types = TypeInformation::new(&Bytes(bytes)).map_err(|cause| error(format!("{cause:?}")))?;
    let mut kern_sock_mask = 0;
    let mut offsets = Vec::with_capacity(FIELDS.len());
    for field in FIELDS {
        offsets.push(match offset(&types, field) {
            Some((offset, None)) => offset,
            Some((offset, Some(bit))) => {
                kern_sock_mask = 1 << bit;
                offset
            }
            None if field.optional => KernelFields::ABSENT,
            None => {
                return Err(FieldError::Missing { structure: field.structure, path: field.path });
            }
        });
    }
    Ok(Found { offsets, kern_sock_mask })
}

/// Byte offset, and for a bit-field the bit in that byte.
fn offset(types: &TypeInformation, field: &Field) -> Option<(u32, Option<u32>)> {
    let structure = types.id_of(field.structure)?;
    match types.offset_of(structure, field.path).ok()?.1 {
        Offset::ByteOffset(bytes) => Some((bytes, None)),
        Offset::BitOffsetAndSize(bits, _) => Some((bits / 8, Some(bits % 8))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_field_of_the_running_kernel() {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        if !path.exists() {
            return; // a container or kernel without BTF: the privileged tests need it, this one can't run
        }
        let found = find(path).unwrap();
        assert_eq!(found.offsets.len(), FIELDS.len());
        assert_ne!(found.kern_sock_mask, 0);
    }

    #[test]
    fn names_the_file_that_is_missing() {
        let error = find(Path::new("/nonexistent/vmlinux")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/vmlinux"), "{error}");
    }
}
