//! What has come back: each file counts once and as a whole, or not at all.

use std::collections::HashMap;

use crate::AnyError;
use crate::job::Job;
use crate::text::{self, Counts};

#[derive(Default)]
pub(crate) struct Tally {
    /// The words of all files that are complete.
    pub(crate) words: Counts,
    /// The files that could not be counted, by their positions: the first byte of the part with the error, and the error.
    pub(crate) failed: HashMap<usize, (u64, AnyError)>,
    /// Large files of which some parts are still out, with how many.
    partial: HashMap<usize, (usize, Counts)>,
}

impl Tally {
    pub(crate) fn new<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Self {
        let mut tally = Self::default();
        for job in jobs {
            if let Job::Part(file_idx, _) = job {
                tally.partial.entry(*file_idx).or_default().0 += 1;
            }
        }
        tally
    }

    /// Takes the result of a job.
    pub(crate) fn add(&mut self, job: &Job, counts: Counts) {
        let file_idx = match job {
            Job::Files(_) => return text::merge(&mut self.words, counts),
            Job::Part(file_idx, _) => *file_idx,
        };
        // What has failed is not there any more.
        let Some((n_out, total)) = self.partial.get_mut(&file_idx) else { return };
        text::merge(total, counts);
        *n_out -= 1;
        if *n_out == 0 {
            let (_, counts) = self.partial.remove(&file_idx).unwrap_or_default();
            text::merge(&mut self.words, counts);
        }
    }

    /// Takes the error of a job. Of several files nobody knows which it was: then they are given back, each as a job.
    pub(crate) fn fail(&mut self, job: Job, error: AnyError) -> Vec<Job> {
        let (file_idx, start) = match job {
            Job::Files(files) if files.len() > 1 => {
                return files.into_iter().map(|file_idx| Job::Files(vec![file_idx])).collect();
            }
            Job::Files(files) => (files[0], 0),
            Job::Part(file_idx, range) => (file_idx, range.start),
        };
        self.partial.remove(&file_idx);
        // Parts come back in any order.
        if self.failed.get(&file_idx).is_none_or(|(earlier, _)| start < *earlier) {
            self.failed.insert(file_idx, (start, error));
        }
        Vec::new()
    }
}
