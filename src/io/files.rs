//! Small files that an operator names, read without waiting for ever: pipes, devices and the kernel's own files may never
//! end, so they are an error before they are opened.

use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// What is at this path, to follow "is" in a sentence; nothing when it is an ordinary file.
///
/// Follows links. The kernel's files count as devices: some look like ordinary ones, and wait when they are read.
pub fn oddity(path: &Path, about: &Metadata) -> Option<&'static str> {
    let kind = about.file_type();
    if kind.is_dir() {
        return Some("a folder");
    }
    if !kind.is_file() {
        return Some("a pipe, a socket or a device");
    }
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    ["/proc", "/sys"].iter().any(|kernel| real.starts_with(kernel)).then_some("a file of the kernel's")
}

/// The whole content of an ordinary file of at most `bytes_max` bytes.
///
/// Errors: [`ErrorKind::InvalidInput`] where it is something else, [`ErrorKind::FileTooLarge`] where it is larger; and
/// what opening and reading fail with.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let about = std::fs::metadata(path)?;
    if let Some(what) = oddity(path, &about) {
        return Err(Error::new(ErrorKind::InvalidInput, format!("it is {what}")));
    }
    if about.len() > bytes_max {
        return Err(Error::new(ErrorKind::FileTooLarge, "it is too large"));
    }
    let mut bytes = Vec::new();
    // What grows meanwhile is cut off here rather than read for ever.
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Error::new(ErrorKind::FileTooLarge, "it is too large"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ordinary_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(&folder.path().join("b"), 4).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(read(folder.path(), 4).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_pipe_and_no_file_of_the_kernel_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc/kmsg", &link).unwrap();
        for path in
            [fifo.as_path(), &link, Path::new("/proc/kmsg"), Path::new("/dev/zero"), Path::new("/proc/self/environ")]
        {
            assert_eq!(read(path, 1_000).unwrap_err().kind(), ErrorKind::InvalidInput, "{}", path.display());
        }
    }
}
