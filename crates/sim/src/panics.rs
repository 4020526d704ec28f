//! Panics in whatever runs on a thread, also where somebody else catches them: a task that is gone is told, with the name of
//! what was run. Where a panic ends the process, at least the name stands before its end.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Once;

thread_local! {
    static NOTED: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

struct Noted {
    name: String,
    panics: Vec<String>,
}

/// Does some work, and tells of every panic in it. Not to be nested.
pub(crate) fn noted<R>(name: &str, work: impl FnOnce() -> R) -> (R, Vec<String>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            note(panic);
            others(panic);
        }));
    });
    NOTED.set(Some(Noted { name: name.to_owned(), panics: Vec::new() }));
    let result = work();
    let noted = NOTED.take();
    (result, noted.map(|noted| noted.panics).unwrap_or_default())
}

#[expect(clippy::print_stderr, reason = "nobody else may live to tell it")]
fn note(panic: &PanicHookInfo<'_>) {
    NOTED.with_borrow_mut(|noted| {
        let Some(Noted { name, panics }) = noted else { return };
        eprintln!("in {name}:");
        panics.push(panic.to_string().replace('\n', " "));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_that_somebody_catches_is_told() {
        let (result, panics) = noted("a test", || std::panic::catch_unwind(|| panic!("lost in a task")).is_err());
        assert!(result);
        assert!(panics.len() == 1 && panics[0].contains("lost in a task"), "{panics:?}");
        assert_eq!(noted("another", || 7), (7, Vec::new()));
    }
}
