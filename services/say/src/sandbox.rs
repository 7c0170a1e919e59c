//! What a worker may still do once it has started: compute, allocate, read and write its pipes, fork.
//!
//! The engine reads hostile text in C. An overflow that gets control of it finds no file system, no
//! network, no way to start a program or to signal another process, and ends after a bounded time.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use landlock::ABI;
use landlock::Access;
use landlock::AccessFs;
use landlock::AccessNet;
use landlock::Ruleset;
use landlock::RulesetAttr;
use landlock::RulesetStatus;
use landlock::Scope;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::Resource;
use nix::sys::resource::setrlimit;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use nix::unistd::alarm;
use nix::unistd::dup2_stderr;
use nix::unistd::getppid;
use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompCmpArgLen;
use seccompiler::SeccompCmpOp;
use seccompiler::SeccompCondition;
use seccompiler::SeccompFilter;
use seccompiler::SeccompRule;

use crate::engine;

/// Address space of a worker and of each fork of it, in bytes.
const ADDRESS_SPACE_BYTES_MAX: u64 = 128 << 20;

/// Open files of a worker: three pipes, their copies, and one spare.
const FILES_MAX: u64 = 8;

/// A step of the sandbox failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {why}")]
pub struct SandboxError {
    step: &'static str,
    why: String,
}

/// For callers that report in `io` terms.
impl From<SandboxError> for io::Error {
    fn from(error: SandboxError) -> Self {
        Self::other(error)
    }
}

fn failed<E: fmt::Display>(step: &'static str) -> impl FnOnce(E) -> SandboxError {
    move |why| SandboxError { step, why: why.to_string() }
}

/// Encloses this process and whatever it forks, for good. Answers what is enforced, for the log.
///
/// # Errors
///
/// When the kernel refuses anything but Landlock, which kernels before 5.13 do not have.
pub fn enclose() -> Result<String, SandboxError> {
    die_with(getppid()).map_err(failed("death signal"))?;
    prctl::set_dumpable(false).map_err(failed("dumpable"))?;
    prctl::set_no_new_privs().map_err(failed("no new privileges"))?;
    for (resource, limit) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_AS, ADDRESS_SPACE_BYTES_MAX),
        (Resource::RLIMIT_NOFILE, FILES_MAX),
    ] {
        setrlimit(resource, limit, limit).map_err(failed("resource limit"))?;
    }
    // What C prints about an attack is the attacker's text; the parent logs what happened.
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        dup2_stderr(null).map_err(failed("stderr"))?;
    }
    let landlock = no_files_no_network().map_err(failed("landlock"))?;
    let program = system_calls().map_err(failed("seccomp filter"))?;
    seccompiler::apply_filter(&program).map_err(failed("seccomp"))?;
    Ok(format!("seccomp on, landlock {landlock}"))
}

/// Kills this process when its parent dies. A fork has to ask again.
///
/// # Errors
///
/// When `parent` has gone already: the signal would never come.
pub fn die_with(parent: Pid) -> nix::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH) }
}

/// What a fork that answers gives up, beyond what [`enclose`] took from it: it may start no process
/// that would outlive it, has no file open but `output`, and ends after so much time on a processor,
/// or by the clock.
///
/// Processes are limited for those without privileges, as in the image; root may start them still.
///
/// # Errors
///
/// When a limit is above one that is already set.
pub fn enclose_answer(output: impl AsFd, cpu_s: u32, wall: Duration) -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    engine::close_all_but(output, FILES_MAX);
    alarm::set(u32::try_from(wall.as_secs()).unwrap_or(u32::MAX).max(1));
    setrlimit(Resource::RLIMIT_CPU, cpu_s.into(), u64::from(cpu_s) + 1)
}

/// Landlock with no rules: no path may be opened, no address connected to, no other process
/// signalled, as far as this kernel can enforce it.
fn no_files_no_network() -> Result<&'static str, landlock::RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "fully enforced",
        RulesetStatus::PartiallyEnforced => "partially enforced",
        RulesetStatus::NotEnforced => "not in this kernel",
    })
}

/// What `fork` of glibc passes to `clone`, and nothing else: no threads, no namespaces.
const FORK_FLAGS: u64 =
    (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD).cast_unsigned() as u64;

/// An allow-list of system calls; any other kills the process.
fn system_calls() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_mprotect,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_futex,
        libc::SYS_wait4,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_getppid,
        libc::SYS_setitimer,
        libc::SYS_getrandom,
        libc::SYS_clock_gettime,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_alarm,
    ]
    .into_iter()
    .map(|call| (call, Vec::new()))
    .collect();
    let only = |argument, value: u64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    rules.insert(libc::SYS_clone, vec![only(0, FORK_FLAGS)?]);
    // `abort` sends itself this signal; where Landlock scopes signals, it reaches nobody else.
    rules.insert(libc::SYS_tgkill, vec![only(2, Signal::SIGABRT as u64)?]);
    rules.insert(libc::SYS_prlimit64, vec![only(0, 0)?]);
    rules.insert(libc::SYS_prctl, vec![only(0, libc::PR_SET_PDEATHSIG.cast_unsigned().into())?]);
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)?
        .try_into()
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs::File;
    use std::io::ErrorKind;
    use std::io::Write;
    use std::net::TcpListener;
    use std::os::unix::net::UnixDatagram;
    use std::os::unix::process::CommandExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::process::Output;

    use landlock::LandlockStatus;
    use nix::sys::signal::kill;
    use nix::sys::signal::raise;
    use nix::unistd::Gid;
    use nix::unistd::Uid;
    use nix::unistd::geteuid;
    use nix::unistd::setgid;
    use nix::unistd::setsid;
    use nix::unistd::setuid;

    use super::*;

    /// Tells this test binary, started by a test of its own, what to try.
    const PROBE: &str = "SAY_PROBE";

    /// Runs the test of this name again, in a process of its own.
    fn again(test: &str, probe: &str) -> Output {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "--nocapture", "--test-threads=1"]);
        command.arg(format!("sandbox::tests::{test}")).env(PROBE, probe).output().unwrap()
    }

    /// In such a process: what to try.
    fn probe() -> Option<String> {
        env::var_os(PROBE)?.into_string().ok()
    }

    /// Answers whether it was allowed.
    type Attempt = fn() -> bool;

    const ENCLOSED: &str = "this process is enclosed";

    /// Tries something in the sandbox, and lives on when it is allowed.
    fn try_enclosed(attempt: Attempt) -> ! {
        enclose().unwrap();
        writeln!(io::stdout(), "{ENCLOSED}").unwrap();
        std::process::exit(i32::from(!attempt()))
    }

    /// What needs no permission.
    fn compute() -> bool {
        let bytes = vec![1_u8; 1 << 20];
        bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>() == 1 << 20
    }

    /// What an attacker in the engine may try.
    const FORBIDDEN: [(&str, Attempt); 10] = [
        ("open", || File::open("/proc/self/status").is_ok()),
        ("socket", || UnixDatagram::unbound().is_ok()),
        ("listen", || TcpListener::bind("127.0.0.1:0").is_ok()),
        ("kill", || kill(getppid(), None).is_ok()),
        ("raise", || raise(Signal::SIGCONT).is_ok()),
        ("execve", || Command::new("/bin/true").exec().raw_os_error().is_none()),
        ("thread", || std::thread::Builder::new().spawn(|| {}).is_ok()),
        ("chdir", || env::set_current_dir("/").is_ok()),
        ("setsid", || setsid().is_ok()),
        ("dumpable", || prctl::set_dumpable(true).is_ok()),
    ];

    #[test]
    fn any_other_system_call_is_death() {
        if let Some(probe) = probe() {
            let forbidden = FORBIDDEN.iter().find(|(name, _)| *name == probe);
            try_enclosed(forbidden.map_or(compute, |(_, attempt)| *attempt));
        }
        let end = |probe| {
            let output = again("any_other_system_call_is_death", probe);
            let enclosed = String::from_utf8_lossy(&output.stdout).contains(ENCLOSED);
            assert!(enclosed, "{probe}: {output:?}");
            output.status
        };
        assert!(end("compute").success(), "else the others prove nothing");
        for (name, _) in FORBIDDEN {
            assert_eq!(end(name).signal(), Some(Signal::SIGSYS as i32), "{name}");
        }
    }

    #[test]
    fn a_fork_that_answers_starts_no_process() {
        const TEST: &str = "a_fork_that_answers_starts_no_process";
        let fork = || engine::fork(|| 0).map_err(|error| error.kind());
        let Some(probe) = probe() else {
            let output = again(TEST, "child");
            assert!(output.status.success(), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains(ENCLOSED), "{output:?}");
            return;
        };
        assert_eq!(probe, "child");
        if geteuid().is_root() {
            // As in the image: the limit does not hold root.
            setgid(Gid::from_raw(65_532)).unwrap();
            setuid(Uid::from_raw(65_532)).unwrap();
        }
        enclose().unwrap();
        assert!(fork().is_ok(), "the worker forks");
        enclose_answer(io::stdout(), 5, Duration::from_secs(10)).unwrap();
        assert_eq!(fork(), Err(ErrorKind::WouldBlock));
        writeln!(io::stdout(), "{ENCLOSED}").unwrap();
        std::process::exit(0);
    }

    /// The kernel's own word, by rules that have nothing to do with the sandbox's.
    fn kernel_landlock() -> LandlockStatus {
        let rules = Ruleset::default().handle_access(AccessFs::Execute).unwrap().create().unwrap();
        rules.restrict_self().unwrap().landlock
    }

    #[test]
    fn landlock_alone_denies_files_and_network_where_the_kernel_has_it() {
        if probe().is_none() {
            let output =
                again("landlock_alone_denies_files_and_network_where_the_kernel_has_it", "child");
            assert!(output.status.success(), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains(ENCLOSED), "{output:?}");
            return;
        }
        let enforced = no_files_no_network().unwrap();
        writeln!(io::stdout(), "{ENCLOSED}").unwrap();
        let LandlockStatus::Available { effective_abi, .. } = kernel_landlock() else {
            assert_eq!(enforced, "not in this kernel");
            return;
        };
        let denied = |error: Option<io::Error>| error.map(|error| error.kind());
        assert_eq!(
            denied(File::open("/proc/self/status").err()),
            Some(ErrorKind::PermissionDenied)
        );
        assert_eq!(denied(File::open("/").err()), Some(ErrorKind::PermissionDenied));
        if effective_abi >= ABI::V4 {
            let listener = TcpListener::bind("127.0.0.1:0");
            assert_eq!(denied(listener.err()), Some(ErrorKind::PermissionDenied));
        }
        if effective_abi >= ABI::V6 {
            assert_eq!(kill(getppid(), None), Err(Errno::EPERM));
            assert_eq!(enforced, "fully enforced");
        } else {
            assert_eq!(enforced, "partially enforced");
        }
    }
}
