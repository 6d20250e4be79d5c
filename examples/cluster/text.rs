//! Files, text and words.
//!
//! A file is text if all of it is UTF-8. A word is a run of alphabetic characters as long as can be, in lower case.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How often each word was seen.
pub(crate) type Counts = HashMap<String, u64>;

/// Why a file has no words. It travels: the coordinator gets it as what it is.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum TextError {
    #[error("the file cannot be read")]
    Unreadable(#[source] SystemError),
    #[error("the file is not text")]
    NotText(#[source] NotUtf8),
}

/// What the operating system said; an `io::Error` itself cannot travel.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{0}")]
pub(crate) struct SystemError(String);

#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("what begins at byte {at} is not UTF-8")]
pub(crate) struct NotUtf8 {
    at: u64,
}

impl From<io::Error> for TextError {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(SystemError(error.to_string()))
    }
}

/// A file that was found.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
}

/// Finds the files below some paths. Folders that cannot be read go to `unreadable`; a path that is not there is an error.
pub(crate) fn walk(paths: &[PathBuf], unreadable: &mut Vec<(PathBuf, TextError)>) -> Result<Vec<Found>, String> {
    let mut files = Vec::new();
    let mut folders = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        match metadata.is_dir() {
            true => folders.push(path.clone()),
            false => files.push(Found { path: path.clone(), size: metadata.len() }),
        }
    }
    while let Some(folder) = folders.pop() {
        if let Err(error) = list(&folder, &mut files, &mut folders) {
            unreadable.push((folder, error.into()));
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn list(folder: &Path, files: &mut Vec<Found>, folders: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if name.as_encoded_bytes().starts_with(b".") || kind.is_dir() && name == "target" {
            continue;
        }
        if kind.is_dir() {
            folders.push(entry.path());
        } else if kind.is_file() {
            // One that is gone meanwhile is told by who reads it.
            files.push(Found { path: entry.path(), size: entry.metadata().map_or(0, |metadata| metadata.len()) });
        }
    }
    Ok(())
}

/// Reads the words that begin in a range of a file, and gives back where they begin.
///
/// Neighbouring ranges share a border, so that no word is read twice or left out: both move it to behind the next
/// [`ends_words`].
pub(crate) fn read_part(path: &Path, range: &Range<u64>) -> Result<(u64, Vec<u8>), TextError> {
    let mut file = BufReader::new(File::open(path)?);
    let begin = border(&mut file, range.start)?;
    let end = border(&mut file, range.end)?;
    let mut bytes = Vec::with_capacity((end - begin) as usize);
    file.seek(SeekFrom::Start(begin))?;
    file.take(end - begin).read_to_end(&mut bytes)?;
    Ok((begin, bytes))
}

/// The first place from `at` on that is behind an end of words, or the end of the file.
fn border(file: &mut BufReader<File>, at: u64) -> io::Result<u64> {
    let Some(mut position) = at.checked_sub(1) else { return Ok(0) };
    file.seek(SeekFrom::Start(position))?;
    loop {
        let bytes = file.fill_buf()?;
        if bytes.is_empty() {
            return Ok(position);
        }
        if let Some(n_before) = bytes.iter().position(|byte| ends_words(*byte)) {
            return Ok(position + n_before as u64 + 1);
        }
        let n_bytes = bytes.len();
        position += n_bytes as u64;
        file.consume(n_bytes);
    }
}

/// Whether a text can be cut behind this byte: it is in no word, and in UTF-8 part of no longer character.
fn ends_words(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_alphabetic()
}

/// Adds the words of `bytes`, which begin at `begin` in their file, to `counts`: all of them, or none if it raises.
pub(crate) fn count(begin: u64, bytes: &[u8], counts: &mut Counts) -> Result<(), TextError> {
    let text = str::from_utf8(bytes)
        .map_err(|error| TextError::NotText(NotUtf8 { at: begin + error.valid_up_to() as u64 }))?;
    for word in text.split(|character: char| !character.is_alphabetic()).filter(|word| !word.is_empty()) {
        let word = match word.bytes().all(|byte| byte.is_ascii_lowercase()) {
            true => Cow::Borrowed(word),
            false => Cow::Owned(word.to_lowercase()),
        };
        match counts.get_mut(&*word) {
            Some(n) => *n += 1,
            None => _ = counts.insert(word.into_owned(), 1),
        }
    }
    Ok(())
}

/// Adds counts to others.
pub(crate) fn merge(total: &mut Counts, counts: Counts) {
    if total.is_empty() {
        *total = counts;
        return;
    }
    for (word, n) in counts {
        *total.entry(word).or_default() += n;
    }
}
