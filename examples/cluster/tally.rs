//! What has come back: each file counts once and as a whole, or not at all.

use std::collections::HashMap;

use crate::AnyError;
use crate::job::Job;
use crate::text::{self, Counts, Found};
use crate::worker::Counted;

#[derive(Default)]
pub(crate) struct Tally {
    /// The words of all files that are complete.
    pub(crate) words: Counts,
    /// The files that could not be counted, by their positions: where the part begins that failed, and why.
    pub(crate) failed: HashMap<usize, (u64, AnyError)>,
    /// Files that are counted in parts: how many parts are out, and the words of the others.
    partial: HashMap<usize, (usize, Counts)>,
}

impl Tally {
    /// Expects the results of these jobs too.
    pub(crate) fn expect<'a>(&mut self, jobs: impl IntoIterator<Item = &'a Job>) {
        for job in jobs {
            if let Job::Part(file_idx, _) = job {
                self.partial.entry(*file_idx).or_default().0 += 1;
            }
        }
    }

    /// Takes the result of a job, and gives back what is to be done again: files that could not be counted with others
    /// get a call of their own, which raises their error.
    pub(crate) fn take(&mut self, job: Job, files: &[Found], counted: Result<Counted, AnyError>) -> Vec<Job> {
        let left_out = match (job, counted) {
            (Job::Part(file_idx, range), counted) => {
                self.take_part(file_idx, range.start, counted.map(|counted| counted.counts));
                Vec::new()
            }
            (Job::Files(idxs), Ok(Counted { counts, left_out })) => {
                text::merge(&mut self.words, counts);
                left_out.iter().filter_map(|idx| idxs.get(*idx).copied()).collect()
            }
            (Job::Files(idxs), Err(_)) => idxs,
        };
        let again: Vec<_> = left_out.into_iter().map(|idx| Job::Part(idx, 0..files[idx].size)).collect();
        self.expect(&again);
        again
    }

    /// Takes the words of a part of a file, or why it has none. They count when all parts of the file have words.
    fn take_part(&mut self, file_idx: usize, start: u64, counted: Result<Counts, AnyError>) {
        let Some((n_out, words)) = self.partial.get_mut(&file_idx) else { return };
        *n_out -= 1;
        match counted {
            Ok(counts) => text::merge(words, counts),
            // Parts come back in any order; the first of the errors is the one to tell.
            Err(error) if self.failed.get(&file_idx).is_none_or(|(earlier, _)| start < *earlier) => {
                self.failed.insert(file_idx, (start, error));
            }
            Err(_) => {}
        }
        if *n_out == 0
            && let Some((_, words)) = self.partial.remove(&file_idx)
            && !self.failed.contains_key(&file_idx)
        {
            text::merge(&mut self.words, words);
        }
    }
}
