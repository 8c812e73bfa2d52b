/// Puts the current thread, and on Linux every thread that it starts later, behind those that draw: five nicer than who
/// started the program chose, a third of a window's share of a full core. A system that refuses gives a window that draws
/// less smoothly, no more.
pub(super) fn work_behind_the_window() {
    // Of the calling thread alone, unlike what POSIX says (nice(2), "C library/kernel differences").
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(5);
    // Of 0 to 99, where 50 is what a thread starts with.
    #[cfg(not(target_os = "linux"))]
    if let Ok(value) = thread_priority::ThreadPriorityValue::try_from(37) {
        let _ = thread_priority::set_current_thread_priority(thread_priority::ThreadPriority::Crossplatform(value));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The thread's niceness, the 19th field of its `stat` (the first after the name in parentheses is the third).
    fn niceness() -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux tells of a thread");
        let fields = stat.rsplit_once(')').expect("a name in parentheses").1;
        fields.split_whitespace().nth(16).and_then(|n| n.parse().ok()).expect("a niceness")
    }

    #[test]
    fn a_worker_and_the_threads_it_starts_are_nicer_than_the_window() {
        let mine = niceness();
        let (worker, helper) = std::thread::spawn(|| {
            work_behind_the_window();
            (niceness(), std::thread::spawn(niceness).join().expect("a niceness"))
        })
        .join()
        .expect("two");
        assert!(worker > mine, "{worker} is not behind {mine}");
        assert_eq!(worker, helper);
        assert_eq!(niceness(), mine, "the window's own thread stays as it was");
    }
}
