//! Tasks that run one exchange after the other.
//!
//! A task of its own for each exchange costs its room on the heap, some kilobytes that are written, moved and given back, and a place in the
//! runtime's list. A task that has ended one waits here for the next instead.
//!
//! Where a connection has one exchange at a time even the task is too much: to wake it, and to have it wake the connection's own, costs more than
//! it has to do. What would run in a task is then polled by the connection's ([`Hired`]), in room that is used again as that of tasks is.
//!
//! **Invariant:** a task that waits holds nothing of what it has run; a job that was given to one is run; a job that panics takes no other with it.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
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
    /// Room for jobs that whoever has them polls.
    rooms: RefCell<Vec<Room<J>>>,
    idle_max: usize,
}

/// A job that is polled by whoever has it.
pub struct Hired<J> {
    pool: Rc<TaskPool<J>>,
    /// None once it is over.
    room: Option<Room<J>>,
}

/// What runs jobs without being a task.
struct Room<J> {
    desk: Rc<Desk<J>>,
    work: Pin<Box<dyn Future<Output = ()>>>,
}

/// Where a task finds its next job.
struct Desk<J> {
    job: Cell<Option<J>>,
    /// It is the same task each time.
    task: OnceCell<Waker>,
    /// How many jobs have ended here.
    ended: Cell<usize>,
}

impl<J> TaskPool<J> {
    /// A pool of which no more than so many tasks wait.
    #[must_use]
    pub fn new(idle_max: usize) -> Self {
        Self { idle: RefCell::default(), rooms: RefCell::default(), idle_max }
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

    /// Takes `job` on for whoever polls it.
    pub fn hire(self: &Rc<Self>, job: J) -> Hired<J> {
        let room = self.rooms.borrow_mut().pop().unwrap_or_else(|| {
            let desk = Rc::<Desk<J>>::default();
            Room { work: Box::pin(work_at(Rc::clone(&desk))), desk }
        });
        room.desk.job.set(Some(job));
        Hired { pool: Rc::clone(self), room: Some(room) }
    }
}

impl<J: Job> Hired<J> {
    /// Runs the job; ready when it is over, or has panicked. What it had is gone then.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut room) = self.room.take() else { return Poll::Ready(()) };
        let before = room.desk.ended.get();
        // What panics is dropped, and seen by nobody. The runtime does the same for a task.
        let polled = catch_unwind(AssertUnwindSafe(|| room.work.as_mut().poll(cx)));
        if polled.is_err() {
            return Poll::Ready(());
        }
        if room.desk.ended.get() == before {
            self.room = Some(room);
            return Poll::Pending;
        }
        let mut rooms = self.pool.rooms.borrow_mut();
        if rooms.len() < self.pool.idle_max {
            rooms.push(room);
        }
        Poll::Ready(())
    }
}

impl<J> Drop for TaskPool<J> {
    fn drop(&mut self) {
        // They find it gone, and end.
        self.idle.get_mut().iter().for_each(|desk| desk.wake());
    }
}

impl<J> Default for Desk<J> {
    fn default() -> Self {
        Self { job: Cell::new(None), task: OnceCell::new(), ended: Cell::new(0) }
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
        let desk = desk.get_or_insert_with(Rc::<Desk<J>>::default);
        open.idle.borrow_mut().push(Rc::clone(desk));
        drop(open);
        next = poll_fn(|cx| desk.poll_next(&pool, cx)).await;
    }
}

/// Runs what is put on a desk, for as long as it is polled.
async fn work_at<J: Job>(desk: Rc<Desk<J>>) {
    loop {
        // Whoever has put it there polls.
        let job = poll_fn(|_| desk.job.take().map_or(Poll::Pending, Poll::Ready)).await;
        job.run().await;
        desk.ended.set(desk.ended.get().wrapping_add(1));
    }
}

/// Tasks that wait in a pool, and rooms, at most: each is some six kilobytes of a worker's memory.
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

    #[test]
    fn who_has_hired_polls() {
        run(async {
            let (pool, ended) = (Rc::new(TaskPool::new(2)), Rc::new(Cell::new(0)));
            let job = |panics| Count { ended: Rc::clone(&ended), panics };
            for round in 1..=3 {
                let mut hired: Vec<_> = (0..3).map(|_| pool.hire(job(false))).collect();
                assert_eq!(ended.get(), (round - 1) * 3, "nobody has polled");
                for hired in &mut hired {
                    poll_fn(|cx| hired.poll(cx)).await;
                }
                assert_eq!((ended.get(), pool.rooms.borrow().len()), (round * 3, 2), "and no more rooms wait than may");
            }
            let mut hired = pool.hire(job(true));
            poll_fn(|cx| hired.poll(cx)).await;
            assert_eq!((ended.get(), pool.rooms.borrow().len()), (9, 1), "its room is not used again");
            drop(pool.hire(job(false)));
            assert_eq!((ended.get(), pool.rooms.borrow().len(), Rc::strong_count(&ended)), (9, 0, 1), "given up");
            assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
        });
    }
}
