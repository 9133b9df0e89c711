//! Verdicts: one line for each check, and the count at the end.

use core::fmt::{self, Display};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use xen_abi::errno::Errno;

use crate::console::println;
use crate::kernel::{self, Role};
use crate::unprivileged;

static PASSED: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);
static ABSENT: AtomicU32 = AtomicU32::new(0);

/// The name of the area that is being checked.
static AREA: AtomicPtr<&'static str> = AtomicPtr::new((&raw const NO_AREA).cast_mut());
static NO_AREA: &str = "none";

fn area() -> &'static str {
    // SAFETY: only pointers to static strings are ever stored there.
    unsafe { *AREA.load(Ordering::Relaxed) }
}

/// What a hypercall can answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Answer(i64);

impl From<i64> for Answer {
    fn from(value: i64) -> Self {
        Self(value)
    }
}

impl From<Errno> for Answer {
    fn from(error: Errno) -> Self {
        Self(error.to_ret())
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u16::try_from(self.0.unsigned_abs()).ok();
        match number.and_then(Errno::from_number) {
            Some(error) if self.0 < 0 => error.fmt(f),
            _ if self.0.unsigned_abs() < 4096 => self.0.fmt(f),
            _ => write!(f, "{:#x}", self.0),
        }
    }
}

/// What a domU gets where the check says what dom0 gets.
fn other(name: &dyn Display) -> Option<Answer> {
    if kernel::role() == Role::Dom0 {
        return None;
    }
    unprivileged::answer(&format_args!("{}/{name}", area())).map(Answer)
}

fn verdict(passed: bool, name: &dyn Display, got: &dyn Display, want: &dyn Display) {
    let area = area();
    if passed {
        PASSED.fetch_add(1, Ordering::Relaxed);
        println!("ok {area}/{name}");
    } else {
        FAILED.fetch_add(1, Ordering::Relaxed);
        println!("FAILED {area}/{name}: got {got}, want {want}");
    }
}

/// The checks that follow belong to the area of this name.
pub fn enter(area: &'static &'static str) {
    AREA.store(core::ptr::from_ref(area).cast_mut(), Ordering::Relaxed);
}

/// The hypercall's result must be this; for a domU there may be another answer ([`unprivileged`]).
pub fn result(name: impl Display, got: i64, want: impl Into<Answer>) {
    let want = other(&name).unwrap_or(want.into());
    let got = Answer(got);
    verdict(
        got == want || forbidden(&name, got, want),
        &name,
        &got,
        &want,
    );
}

/// Whether a domU was refused what another hypervisor refuses it for other reasons.
fn forbidden(name: &dyn Display, got: Answer, want: Answer) -> bool {
    kernel::role() != Role::Dom0
        && got == Errno::EPERM.into()
        && want.0 < 0
        && unprivileged::is_forbidden(&format_args!("{}/{name}", area()))
}

/// As [`result`] for an operation that a hypervisor may honestly not have: `ENOSYS` and
/// `EOPNOTSUPP` are no failure, but are told.
pub fn optional(name: impl Display, got: i64, want: impl Into<Answer>) {
    let want = want.into();
    let absent = [Errno::ENOSYS, Errno::EOPNOTSUPP].map(Answer::from);
    if Answer(got) == want || !absent.contains(&Answer(got)) {
        return result(name, got, want);
    }
    ABSENT.fetch_add(1, Ordering::Relaxed);
    let area = area();
    println!("absent {area}/{name}: {}", Answer(got));
}

/// The hypercall's result must be one of these two; the caller says why both are right.
pub fn either(name: impl Display, got: i64, first: impl Into<Answer>, second: impl Into<Answer>) {
    let (got, first, second) = (Answer(got), first.into(), second.into());
    let want = format_args!("{first} or {second}");
    verdict(got == first || got == second, &name, &got, &want);
}

/// The two must be equal.
pub fn same<T: PartialEq + fmt::Debug>(name: impl Display, got: T, want: T) {
    let passed = got == want;
    verdict(
        passed,
        &name,
        &format_args!("{got:x?}"),
        &format_args!("{want:x?}"),
    );
}

/// The condition must hold; `got` explains a failure.
pub fn holds(name: impl Display, condition: bool, got: impl Display) {
    verdict(condition, &name, &got, &"it to hold");
}

/// Prints the end of the report.
pub fn finish() {
    let passed = PASSED.load(Ordering::Relaxed);
    let failed = FAILED.load(Ordering::Relaxed);
    println!("REPORT-END {}", passed + failed);
    let absent = ABSENT.load(Ordering::Relaxed);
    println!("MICRO-RESULT passed {passed} failed {failed} absent {absent}");
}
