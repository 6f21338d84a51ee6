//! Files that a command creates, all or none.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// The mode of a file that holds secrets.
pub(super) const PRIVATE: u32 = 0o600;
/// The mode of others, less what the umask takes.
pub(super) const USUAL: u32 = 0o666;

/// Writes a new file and its folder; never over an existing one.
pub(super) fn create(path: &Path, text: &str, mode: u32) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(Kind::Config, format!("failed to write {}", path.display()))
            .advise("look at the folder's permissions and at the free space")
            .because(error)
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// Writes new files, or none of them when one fails.
pub(super) fn create_all(files: &[(PathBuf, String, u32)]) -> Result<()> {
    for (done, (path, text, mode)) in files.iter().enumerate() {
        if let Err(error) = create(path, text, *mode) {
            for (path, _, _) in &files[..done] {
                // What cannot be removed is named by the next attempt.
                drop(fs::remove_file(path));
            }
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn all_files_are_written_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = |name: &str, mode| (path(name), "x".to_owned(), mode);
        fs::write(path("there"), "mine").unwrap();
        create_all(&[file("new/a", USUAL), file("there", USUAL)]).unwrap_err();
        assert!(!path("new/a").exists());
        assert_eq!(fs::read_to_string(path("there")).unwrap(), "mine");
        create_all(&[file("new/a", PRIVATE)]).unwrap();
        assert_eq!(fs::metadata(path("new/a")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
