//! Series whose labels come and go with the routes: kept as long as somebody counts on them, then
//! removed from the page, so that reloads never add up to series without end.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::Weak;

type Known<T> = BTreeMap<String, Weak<Series<T>>>;

/// The series of one kind that are in use, by label.
pub struct Book<T> {
    known: Mutex<Known<T>>,
    make: Box<dyn Fn(&str) -> T + Send + Sync>,
    remove: Box<dyn Fn(&str) + Send + Sync>,
}

/// The series of one label; the last holder's end removes them.
pub struct Series<T> {
    label: String,
    value: T,
    book: Arc<Book<T>>,
}

impl<T> Book<T> {
    /// A book that finds the series of a label with `make`, and takes them off the page with `remove`.
    pub fn new(
        make: impl Fn(&str) -> T + Send + Sync + 'static,
        remove: impl Fn(&str) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let known = Mutex::default();
        Arc::new(Self { known, make: Box::new(make), remove: Box::new(remove) })
    }

    /// The series of `label`: those in use, or new ones.
    pub fn open(self: &Arc<Self>, label: &str) -> Arc<Series<T>> {
        let mut known = self.lock();
        if let Some(series) = known.get(label).and_then(Weak::upgrade) {
            return series;
        }
        let value = (self.make)(label);
        let series = Arc::new(Series { label: label.to_owned(), value, book: Arc::clone(self) });
        known.insert(label.to_owned(), Arc::downgrade(&series));
        series
    }

    /// Sections under this lock are short and never await.
    fn lock(&self) -> MutexGuard<'_, Known<T>> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<T> Series<T> {
    /// What the series are of.
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl<T> Deref for Series<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Series<T> {
    fn drop(&mut self) {
        let mut known = self.book.lock();
        // Somebody may have opened the label again since the last holder let go.
        if known.get(&self.label).is_some_and(|series| series.strong_count() == 0) {
            known.remove(&self.label);
            (self.book.remove)(&self.label);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn series_go_with_their_last_holder_and_not_before() {
        let removed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&removed);
        let book = Book::new(str::len, move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let first = book.open("/dice");
        let second = book.open("/dice");
        assert!(Arc::ptr_eq(&first, &second) && **first == 5);
        drop(first);
        assert_eq!(removed.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(removed.load(Ordering::Relaxed), 1);
        drop(book.open("/dice"));
        assert_eq!(removed.load(Ordering::Relaxed), 2);
        assert!(book.lock().is_empty());
    }

    #[test]
    fn many_threads_that_open_and_close_one_label_leave_nothing_behind() {
        let book = Book::new(|_| (), |_| ());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        drop((book.open("a"), book.open("b")));
                    }
                });
            }
        });
        assert!(book.lock().is_empty());
    }
}
