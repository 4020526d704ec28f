//! Where the report goes. It is there as a whole or not at all: what is at its place stays until the new one is written.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::DemoError;

/// A place that could be written to when it was last looked at.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    how: How,
}

#[derive(Debug)]
enum How {
    /// Beside it first, and then in its place.
    Replaced(PathBuf),
    /// What is no file, as `/dev/null`, is written to.
    Written,
}

impl Place {
    /// Finds out before a minute has passed whether something can be written there, and changes nothing.
    pub fn of(path: &Path) -> Result<Self, DemoError> {
        let found = Self::found(path);
        found.map_err(|source| DemoError::Report { path: path.to_owned(), source })
    }

    fn found(path: &Path) -> io::Result<Self> {
        // A link stays one.
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        if path.exists() {
            OpenOptions::new().append(true).open(&path)?;
            if !path.is_file() {
                return Ok(Self { path, how: How::Written });
            }
        }
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let draft = path.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
        OpenOptions::new().create_new(true).write(true).open(&draft)?;
        fs::remove_file(&draft)?;
        Ok(Self { path, how: How::Replaced(draft) })
    }

    /// Where that is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it.
    pub fn write(&self, text: &str) -> Result<(), DemoError> {
        let Self { path, how } = self;
        let written = match how {
            How::Written => fs::write(path, text),
            How::Replaced(draft) => fs::write(draft, text).and_then(|()| fs::rename(draft, path)).inspect_err(|_| {
                // It may not be there.
                let _ = fs::remove_file(draft);
            }),
        };
        written.map_err(|source| DemoError::Report { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_until_the_new_one_is_whole() {
        let directory = std::env::temp_dir().join(format!("spotalis-place-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (path, link) = (directory.join("report.html"), directory.join("link.html"));
        let there = || fs::read_dir(&directory).unwrap().count();
        let place = Place::of(&path).unwrap();
        assert_eq!(there(), 0, "nothing is left by whoever gives up");
        place.write("new").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Place::of(&link).unwrap().write("newer").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), there()), ("newer", 2));
        assert!(link.is_symlink());
        assert!(Place::of(&directory).is_err() && Place::of(&directory.join("none/report.html")).is_err());
        Place::of(Path::new("/dev/null")).unwrap().write("nothing").unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}
