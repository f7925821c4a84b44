//! The kernel structure fields that the programs read.
//!
//! Rust's BPF target has no CO-RE relocations. The programs are built with a placeholder in each instruction
//! that needs a field's offset; user space looks the field up in the kernel's BTF and writes its offset
//! into the instruction before loading, and the verifier checks the access against the same BTF.

/// One field to look up.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The kernel structure.
    pub structure: &'static str,
    /// The path of members inside it, joined with dots; anonymous members are looked through,
    /// a number is an array's index.
    pub path: &'static str,
    /// Absent in some kernels: the offset is then [`KernelFields::ABSENT`] and the program does without.
    pub optional: bool,
}

/// Where an architecture keeps the system call's number and its first three arguments in `pt_regs`.
const REGS: [&str; 4] = if cfg!(target_arch = "aarch64") {
    ["syscallno", "orig_x0", "regs.1", "regs.2"]
} else {
    ["orig_ax", "di", "si", "dx"]
};

macro_rules! kernel_fields {
    ($($(#[$doc:meta])* $name:ident = $structure:literal $path:tt $([$index:literal])? $($optional:ident)?;)+) => {
        /// Byte offsets of kernel structure fields, named `structure_field`. A member's own place in this
        /// structure names the field where a [`crate::placeholder`] stands for it.
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        pub struct KernelFields {
            $($(#[$doc])* pub $name: u32,)+
        }

        /// The fields of [`KernelFields`], in its order.
        pub const FIELDS: &[Field] = &[
            $(Field {
                structure: $structure,
                path: $path$([$index])?,
                optional: kernel_fields!(@optional $($optional)?),
            },)+
        ];
    };
    (@optional) => { false };
    (@optional optional) => { true };
}

impl KernelFields {
    /// The offset of a field that this kernel doesn't have.
    pub const ABSENT: u32 = u32::MAX;
}

kernel_fields! {
    /// Address family.
    sock_family = "sock" "__sk_common.skc_family";
    /// TCP state.
    sock_state = "sock" "__sk_common.skc_state";
    /// Remote port, network byte order.
    sock_dport = "sock" "__sk_common.skc_dport";
    /// Local port, host byte order.
    sock_num = "sock" "__sk_common.skc_num";
    /// Remote IPv4 address.
    sock_daddr = "sock" "__sk_common.skc_daddr";
    /// Local IPv4 address.
    sock_rcv_saddr = "sock" "__sk_common.skc_rcv_saddr";
    /// Remote IPv6 address.
    sock_v6_daddr = "sock" "__sk_common.skc_v6_daddr";
    /// Local IPv6 address.
    sock_v6_rcv_saddr = "sock" "__sk_common.skc_v6_rcv_saddr";
    /// Network namespace.
    sock_net = "sock" "__sk_common.skc_net.net";
    /// `SOCK_STREAM`, ...
    sock_type = "sock" "sk_type";
    /// `IPPROTO_TCP`, ...
    sock_protocol = "sock" "sk_protocol";
    /// Pending error.
    sock_err = "sock" "sk_err";
    /// Directions that are shut down (RCV_SHUTDOWN = 1).
    sock_shutdown = "sock" "sk_shutdown";
    /// The socket's cookie; 0 until somebody asks for it.
    sock_cookie = "sock" "__sk_common.skc_cookie.counter";
    /// Buffers that wait to be read.
    sock_receive_buffers = "sock" "sk_receive_queue.qlen";
    /// Socket storage: null where no program put any.
    sock_storage = "sock" "sk_bpf_storage";
    /// The file system's side of the socket.
    sock_socket = "sock" "sk_socket";
    /// The byte that holds the bit `sk_kern_sock`: the socket belongs to the kernel itself.
    /// [`crate::Settings::kern_sock_mask`] selects the bit.
    sock_kern_sock = "sock" "sk_kern_sock";
    /// The file of a socket.
    socket_file = "socket" "file";
    /// The `sock` of a socket.
    socket_sk = "socket" "sk";
    /// Next sequence number that the application will write.
    tcp_write_seq = "tcp_sock" "write_seq";
    /// Next sequence number that the application will read.
    tcp_copied_seq = "tcp_sock" "copied_seq";
    /// Next sequence number expected from the peer.
    tcp_rcv_nxt = "tcp_sock" "rcv_nxt";
    /// Sequence number of the next byte to be put on the wire.
    tcp_snd_nxt = "tcp_sock" "snd_nxt";
    /// CLOCK_MONOTONIC when TCP last looked: before it sends, and when something has come.
    tcp_clock_cache = "tcp_sock" "tcp_clock_cache" optional;
    /// Smoothed round-trip time, eighths of a microsecond.
    tcp_srtt_us = "tcp_sock" "srtt_us";
    /// Segments retransmitted.
    tcp_total_retrans = "tcp_sock" "total_retrans";
    /// The address of a unix socket: null where it has none.
    unix_addr = "unix_sock" "addr";
    /// The other end of a unix socket.
    unix_peer = "unix_sock" "peer";
    /// Namespace identity.
    net_inum = "net" "ns.inum";
    /// The thread group's leader.
    task_group_leader = "task_struct" "group_leader";
    /// Task storage: null where no program put any.
    task_storage = "task_struct" "bpf_storage";
    /// Thread group id.
    task_tgid = "task_struct" "tgid";
    /// `PF_...` flags.
    task_flags = "task_struct" "flags";
    /// Thread id.
    task_pid = "task_struct" "pid";
    /// Thread's `struct pid`.
    task_thread_pid = "task_struct" "thread_pid";
    /// Shared by the threads of a process.
    task_signal = "task_struct" "signal";
    /// Wait status.
    task_exit_code = "task_struct" "exit_code";
    /// Signal handlers, shared by the threads of a process.
    task_sighand = "task_struct" "sighand";
    /// What signals run, a `k_sigaction` each.
    sighand_action = "sighand_struct" "action";
    /// Open files.
    task_files = "task_struct" "files";
    /// The task's io_uring context: null where it has none.
    task_io_uring = "task_struct" "io_uring" optional;
    /// Thread state flags (x86: TS_COMPAT in a 32-bit system call).
    task_status = "task_struct" "thread_info.status" optional;
    /// Time on a run queue.
    task_run_delay = "task_struct" "sched_info.run_delay" optional;
    /// Time on a CPU.
    task_exec_runtime = "task_struct" "se.sum_exec_runtime";
    /// When the time on a CPU was last brought up to date, on the scheduler's clock.
    task_exec_start = "task_struct" "se.exec_start";
    /// x86: the thread pointer, which is also what `pthread_self` gives.
    task_fsbase = "task_struct" "thread.fsbase" optional;
    /// Times that it waited of itself.
    task_nvcsw = "task_struct" "nvcsw";
    /// Times that it was interrupted for another.
    task_nivcsw = "task_struct" "nivcsw";
    /// Page faults that waited for a disk.
    task_maj_flt = "task_struct" "maj_flt";
    /// Threads that have not begun to exit.
    signal_live = "signal_struct" "live";
    /// Threads whose figures are not in the sums that follow.
    signal_nr_threads = "signal_struct" "nr_threads";
    /// Time on a CPU of the other threads.
    signal_sum_sched_runtime = "signal_struct" "sum_sched_runtime";
    /// As of a task, of the other threads.
    signal_nvcsw = "signal_struct" "nvcsw";
    /// As of a task, of the other threads.
    signal_nivcsw = "signal_struct" "nivcsw";
    /// As of a task, of the other threads.
    signal_maj_flt = "signal_struct" "maj_flt";
    /// The most memory that was resident, pages.
    signal_maxrss = "signal_struct" "maxrss";
    /// Namespace identity.
    pid_namespace_inum = "pid_namespace" "ns.inum";
    /// Namespace level of a pid.
    pid_level = "pid" "level";
    /// Numbers of a pid, by level.
    pid_numbers = "pid" "numbers";
    /// Descriptor table.
    files_fdt = "files_struct" "fdt";
    /// Descriptors in it.
    fdt_max = "fdtable" "max_fds";
    /// Its files.
    fdt_fd = "fdtable" "fd";
    /// pt_regs: system call number.
    regs_syscall = "pt_regs" REGS[0];
    /// pt_regs: first argument.
    regs_arg0 = "pt_regs" REGS[1];
    /// pt_regs: second argument.
    regs_arg1 = "pt_regs" REGS[2];
    /// pt_regs: third argument.
    regs_arg2 = "pt_regs" REGS[3];
}
const _: () = assert!(size_of::<KernelFields>() == FIELDS.len() * 4);
