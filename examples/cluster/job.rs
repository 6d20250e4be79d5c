//! What is given to a worker in one call.

use std::collections::VecDeque;
use std::ops::Range;

use rmi::Blob;

use crate::text::{self, Found, TextError};
use crate::worker::Piece;

/// A job has about this many bytes. Large enough that a call costs little beside it, and small enough that its result,
/// where every word is another, is a message (8 MiB): a word and its count need at most three times its bytes.
const JOB_BYTES: u64 = 1 << 20;
/// A small folder is cut finer than that, so that each worker still gets many jobs.
const JOBS_PER_WORKER: u64 = 16;

#[derive(Debug, Clone)]
pub(crate) enum Job {
    /// Small files, by their positions.
    Files(Vec<usize>),
    /// A part of a large file.
    Part(usize, Range<u64>),
}

impl Job {
    /// Makes jobs of files.
    pub(crate) fn plan(files: &[Found], n_workers: usize) -> VecDeque<Self> {
        let n_bytes: u64 = files.iter().map(|file| file.size).sum();
        let job_bytes = (n_bytes / (n_workers as u64 * JOBS_PER_WORKER)).clamp(JOB_BYTES / 256, JOB_BYTES);
        let mut jobs = VecDeque::new();
        let (mut small, mut small_bytes) = (Vec::new(), 0);
        for (file_idx, file) in files.iter().enumerate() {
            if file.size > job_bytes {
                let n_parts = file.size.div_ceil(job_bytes);
                let border = |part: u64| (file.size as u128 * part as u128 / n_parts as u128) as u64;
                jobs.extend((0..n_parts).map(|part| Self::Part(file_idx, border(part)..border(part + 1))));
                continue;
            }
            if small_bytes + file.size > job_bytes {
                jobs.push_back(Self::Files(std::mem::take(&mut small)));
                small_bytes = 0;
            }
            small.push(file_idx);
            small_bytes += file.size;
        }
        if !small.is_empty() {
            jobs.push_back(Self::Files(small));
        }
        jobs
    }

    /// The positions and ranges of what is to be read.
    fn ranges<'a>(&'a self, files: &'a [Found]) -> Vec<(usize, Range<u64>)> {
        match self {
            Self::Files(idxs) => idxs.iter().map(|idx| (*idx, 0..files[*idx].size)).collect(),
            Self::Part(idx, range) => vec![(*idx, range.clone())],
        }
    }

    /// How much there is to read.
    pub(crate) fn n_bytes(&self, files: &[Found]) -> u64 {
        self.ranges(files).iter().map(|(_, range)| range.end - range.start).sum()
    }

    /// What a worker is told, which can read the files itself.
    pub(crate) fn pieces(&self, files: &[Found]) -> Vec<Piece> {
        let ranges = self.ranges(files).into_iter();
        ranges.map(|(idx, range)| Piece::At { path: files[idx].path.clone(), range }).collect()
    }

    /// What a worker is sent, which cannot: the text, as blobs, which are not copied into the message.
    pub(crate) fn read(&self, files: &[Found]) -> Result<Vec<Piece>, TextError> {
        let read = |(idx, range): (usize, Range<u64>)| {
            let (begin, bytes) = text::read_part(&files[idx].path, &range)?;
            Ok(Piece::Text { begin, text: Blob::from(bytes) })
        };
        self.ranges(files).into_iter().map(read).collect()
    }
}
