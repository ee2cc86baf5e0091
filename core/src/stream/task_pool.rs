//! Tasks that run one exchange after the other.
//!
//! A task of its own for each exchange costs its room on the heap, some kilobytes that are written, moved and given back, and a place in the
//! runtime's list. A task that has ended one waits here for the next instead.
//!
//! **Invariant:** a task that waits holds nothing of what it has run; a job that was given is run.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use tokio::task::spawn_local;

/// What a task runs.
pub trait Job: 'static {
    /// Runs it to its end.
    fn run(self) -> impl Future<Output = ()>;
}

/// The tasks of one worker, for jobs of one kind.
pub struct TaskPool<J> {
    /// Those that wait, the one that has waited least at the end: its memory is still near.
    idle: RefCell<Vec<Rc<Desk<J>>>>,
    idle_max: usize,
}

/// Where a task finds its next job.
struct Desk<J> {
    job: Cell<Option<J>>,
    /// It is the same task each time.
    task: OnceCell<Waker>,
}

impl<J> TaskPool<J> {
    /// A pool of which no more than so many tasks wait.
    #[must_use]
    pub fn new(idle_max: usize) -> Self {
        Self { idle: RefCell::default(), idle_max }
    }
}

impl<J> Default for TaskPool<J> {
    fn default() -> Self {
        Self::new(IDLE_TASKS_MAX)
    }
}

impl<J: Job> TaskPool<J> {
    /// Has a task run `job`: one that waits, or a new one.
    pub fn start(self: &Rc<Self>, job: J) {
        // Not in the condition: the borrow would last as long as the body.
        let idle = self.idle.borrow_mut().pop();
        match idle {
            Some(desk) => desk.put(job),
            // Its result is that it is over.
            None => drop(spawn_local(work(Rc::downgrade(self), job))),
        }
    }
}

impl<J> Drop for TaskPool<J> {
    fn drop(&mut self) {
        // They find it gone, and end.
        self.idle.get_mut().iter().for_each(|desk| desk.wake());
    }
}

impl<J> Desk<J> {
    fn put(&self, job: J) {
        self.job.set(Some(job));
        self.wake();
    }

    fn wake(&self) {
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }

    /// The next job; None: there will be none.
    fn poll_next(&self, pool: &Weak<TaskPool<J>>, cx: &Context<'_>) -> Poll<Option<J>> {
        if let Some(job) = self.job.take() {
            return Poll::Ready(Some(job));
        }
        if pool.strong_count() == 0 {
            return Poll::Ready(None);
        }
        self.task.get_or_init(|| cx.waker().clone());
        Poll::Pending
    }
}

async fn work<J: Job>(pool: Weak<TaskPool<J>>, first: J) {
    let mut next = Some(first);
    let mut desk = None;
    while let Some(job) = next {
        job.run().await;
        let Some(open) = pool.upgrade().filter(|pool| pool.idle.borrow().len() < pool.idle_max) else { return };
        let desk = desk.get_or_insert_with(|| Rc::new(Desk { job: Cell::new(None), task: OnceCell::new() }));
        open.idle.borrow_mut().push(Rc::clone(desk));
        drop(open);
        next = poll_fn(|cx| desk.poll_next(&pool, cx)).await;
    }
}

/// Tasks that wait in a pool, at most: each is some six kilobytes of a worker's memory.
const IDLE_TASKS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::yield_now;

    use super::*;

    /// Counts the tasks that run and those that have ended.
    struct Count {
        ended: Rc<Cell<usize>>,
        panics: bool,
    }

    impl Job for Count {
        async fn run(self) {
            yield_now().await;
            assert!(!self.panics, "as the test has it");
            self.ended.set(self.ended.get() + 1);
        }
    }

    fn run(test: impl Future<Output = ()>) {
        Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap().block_on(test);
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        for _ in 0..1_000 {
            if holds() {
                return;
            }
            yield_now().await;
        }
        panic!("it never holds");
    }

    #[test]
    fn tasks_are_used_again_and_no_more_wait_than_may() {
        run(async {
            let (pool, ended) = (Rc::new(TaskPool::new(2)), Rc::new(Cell::new(0)));
            let job = || Count { ended: Rc::clone(&ended), panics: false };
            for round in 1..=5 {
                (0..3).for_each(|_| pool.start(job()));
                until(|| ended.get() == round * 3).await;
                until(|| pool.idle.borrow().len() == 2).await;
                assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 2, "those that wait");
            }
        });
    }

    #[test]
    fn tasks_end_with_their_pool() {
        run(async {
            let (pool, ended) = (Rc::new(TaskPool::default()), Rc::new(Cell::new(0)));
            pool.start(Count { ended: Rc::clone(&ended), panics: false });
            until(|| pool.idle.borrow().len() == 1).await;
            drop(pool);
            until(|| tokio::runtime::Handle::current().metrics().num_alive_tasks() == 0).await;
        });
    }

    #[test]
    fn a_job_that_panics_takes_its_task_and_no_other() {
        run(async {
            let (pool, ended) = (Rc::new(TaskPool::default()), Rc::new(Cell::new(0)));
            let job = |panics| Count { ended: Rc::clone(&ended), panics };
            [false, true, false].into_iter().for_each(|panics| pool.start(job(panics)));
            until(|| ended.get() == 2 && pool.idle.borrow().len() == 2).await;
            pool.start(job(false));
            until(|| ended.get() == 3).await;
        });
    }
}
