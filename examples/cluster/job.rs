//! What is given to a worker in one call.

use std::collections::VecDeque;
use std::ops::Range;

use crate::text::Found;

/// A job has about this many bytes: the more, the less there is to merge. Its result still is a message (8 MiB at most)
/// where no two words are the same: a word and its count need less than twice the bytes of the word and its blank.
const JOB_BYTES: u64 = 4 << 20;
/// A small folder is cut finer than that, so that each worker still gets many jobs.
const JOBS_PER_WORKER: u64 = 16;
/// To open a file costs about as much as to count this many bytes. It also bounds how many a job names.
const FILE_COST: u64 = 1024;

#[derive(Debug, Clone)]
pub(crate) enum Job {
    /// Small files, by their positions.
    Files(Vec<usize>),
    /// A part of a large file, or one file that needs a call of its own.
    Part(usize, Range<u64>),
}

impl Job {
    /// Makes jobs of files.
    pub(crate) fn plan(files: &[Found], n_workers: usize) -> VecDeque<Self> {
        let n_bytes: u64 = files.iter().map(|file| file.size).sum();
        let job_bytes = (n_bytes / (n_workers as u64 * JOBS_PER_WORKER)).clamp(JOB_BYTES / 1024, JOB_BYTES);
        let mut jobs = VecDeque::new();
        let (mut small, mut small_bytes) = (Vec::new(), 0);
        for (file_idx, file) in files.iter().enumerate() {
            if file.size > job_bytes {
                let n_parts = file.size.div_ceil(job_bytes);
                let border = |part: u64| (file.size as u128 * part as u128 / n_parts as u128) as u64;
                jobs.extend((0..n_parts).map(|part| Self::Part(file_idx, border(part)..border(part + 1))));
                continue;
            }
            let cost = file.size + FILE_COST;
            if small_bytes + cost > job_bytes && !small.is_empty() {
                jobs.push_back(Self::Files(std::mem::take(&mut small)));
                small_bytes = 0;
            }
            small.push(file_idx);
            small_bytes += cost;
        }
        if !small.is_empty() {
            jobs.push_back(Self::Files(small));
        }
        jobs
    }

    /// How much there is to read.
    pub(crate) fn n_bytes(&self, files: &[Found]) -> u64 {
        match self {
            Self::Files(idxs) => idxs.iter().map(|idx| files[*idx].size).sum(),
            Self::Part(_, range) => range.end - range.start,
        }
    }
}
