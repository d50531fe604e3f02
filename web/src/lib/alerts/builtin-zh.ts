import { translated } from './translated';

/**
 * What rules that come along say, in Chinese: by alert, first the summary, then the description. `{…}` in the English text stands
 * for what the server has put there, or the template that would; the Chinese one has it by its place, from 0.
 */
export const BUILTIN_ZH: Record<string, [string, string][]> = {
  DiskFullIn4Hours: [
    ['{…} on {…} will be full within 4 hours', '{1} 上的 {0} 将在 4 小时内写满'],
    ['At the pace of the last hour {…} runs out of space. See what writes there, and make room.', '按过去一小时的速度，{0} 的空间将耗尽。请查看是什么在写入，并腾出空间。'],
  ],
  DiskNearlyFull: [
    ['{…} on {…} has {…} left', '{1} 上的 {0} 仅剩 {2} 空间'],
    ['Make room on {…}, or make it larger.', '请在 {0} 上腾出空间，或将其扩容。'],
  ],
  InodesNearlyGone: [
    ['{…} on {…} has inodes for {…} of its files left', '{1} 上的 {0} 仅剩 {2} 的 inode'],
    ['Look for a directory with very many small files; space alone does not help.', '请查找包含大量小文件的目录；仅增加空间没有帮助。'],
  ],
  FilesystemHangs: [
    ['{…} on {…} does not answer', '{1} 上的 {0} 没有响应'],
    ['The server of a network filesystem is gone, or its disk has failed.', '网络文件系统的服务器已不可用，或其磁盘已损坏。'],
  ],
  ClockSkew: [
    ['The clock of {…} is off by {…}', '{0} 的时钟偏差 {1}'],
    ['See whether its time service runs and reaches its servers. Samples and lines of this host bear wrong times until then.', '请检查其时间服务是否运行并能连接服务器。在此之前，该主机的样本和日志行带有错误的时间。'],
  ],
  ClockNotSynchronised: [
    ['Nothing keeps the clock of {…} right', '{0} 的时钟没有同步'],
    ['Start chrony, ntpd or systemd-timesyncd on the host.', '请在该主机上启动 chrony、ntpd 或 systemd-timesyncd。'],
  ],
  MemoryNearlyExhausted: [
    ['{…} has {…} of its memory left', '{0} 仅剩 {1} 的内存'],
    ['See which process grew; the kernel will stop one when nothing is left.', '请查看哪个进程在增长；内存耗尽时内核会终止某个进程。'],
  ],
  MemoryPressure: [
    ['Processes of {…} wait for memory {…} of the time', '{0} 的进程有 {1} 的时间在等待内存'],
    ['The host pages, or reclaims what it needs again at once. Give it memory, or move work away.', '该主机在换页，或反复回收马上又要用的内存。请增加内存，或迁走负载。'],
  ],
  OutOfMemoryKill: [
    ['The kernel of {…} stopped a process for want of memory', '{0} 的内核因内存不足终止了一个进程'],
    ["The kernel's log says which; see whether its service runs again.", '内核日志说明是哪个进程；请检查其服务是否已恢复运行。'],
  ],
  TargetGone: [
    ['{…} of job {…} cannot be scraped', '无法抓取作业 {1} 的 {0}'],
    ['The page of targets says why its last scrape failed.', '目标页说明上次抓取失败的原因。'],
  ],
  AgentGone: [
    ['The agent {…} is not connected', 'agent {0} 未连接'],
    ['Its host is down, the network between is, or the agent has stopped. What it collects meanwhile is in its spool and comes later.', '其主机宕机、网络中断，或 agent 已停止。期间采集的数据保存在其 spool 中，稍后送达。'],
  ],
  AgentBehind: [
    ['What the agent {…} has is {…} old when it is stored', 'agent {0} 的数据在写入时已滞后 {1}'],
    ['The network is too slow for it, or the brokers are; both are told by `watchfire doctor` on its host.', '网络或 broker 太慢；在该主机上运行 `watchfire doctor` 可查明原因。'],
  ],
  AgentLosesSamples: [
    ['The agent {…} had to drop samples', 'agent {0} 丢弃了样本'],
    ['Its spool is full. Give it more space, or reach a broker from there again.', '其 spool 已满。请增加空间，或恢复其与 broker 的连接。'],
  ],
  AgentCertificateEnds: [
    ['The certificate of the agent {…} ends in {…}', 'agent {0} 的证书将在 {1} 后到期'],
    ['It renews itself while it is connected: see why it could not, or let it join again.', '证书在连接时会自动续期：请查明为何未能续期，或让其重新加入。'],
  ],
  LinesNotRead: [
    ['{…} reads no log files, for its spool of lines is full', '{0} 的日志 spool 已满，不再读取日志文件'],
    ['Lines stay in their files. Reach a broker again before the files are rotated away.', '日志行仍在原文件中。请在文件被轮转删除之前恢复与 broker 的连接。'],
  ],
  DeadMansSwitch: [
    ['Rules are evaluated and notifications are sent', '规则正在求值，通知正在发送'],
    ['This alert always fires. Send it to a service that raises an alarm when it no longer comes.', '此告警始终触发。请将其发送到一个外部服务，当它不再到达时由该服务报警。'],
  ],
  IngestRefused: [
    ['{…} refuses what it is sent', '{0} 拒绝接收数据'],
    ['The disk is full, memory is short, or the shared store does not keep up: `watchfire doctor` says which.', '磁盘已满、内存不足或共享存储跟不上：`watchfire doctor` 会说明是哪一种。'],
  ],
  SamplesRejected: [
    ['{…} rejects samples because of their labels, time or a limit', '{0} 因标签、时间或限制而拒绝样本'],
    ['Answers to senders, and the log of the broker, say which limit and its value.', '给发送方的应答和 broker 的日志说明是哪个限制及其数值。'],
  ],
  TenantLimitReached: [
    ['The tenant {…} has reached its limit {…}', '租户 {0} 已达到限制 {1}'],
    ['Raise the limit, or see on the page of cardinality which labels grew.', '请提高限制，或在基数页查看哪些标签增长了。'],
  ],
  QueriesRefused: [
    ['{…} refuses or stops queries', '{0} 拒绝或终止查询'],
    ['Too many run at once, or they take too much memory: the page of queries shows them.', '同时运行的查询过多，或占用内存过多：查询管理页会列出它们。'],
  ],
  MemoryNearLimit: [
    ['{…} takes {…} of its memory limit', '{0} 已占用内存限制的 {1}'],
    ['Soon new series and large queries are refused. Raise memory.limit_bytes, or keep fewer series.', '新的序列和大查询很快会被拒绝。请提高 memory.limit_bytes，或减少序列。'],
  ],
  DataDamaged: [
    ['{…} found damaged data since its start', '{0} 自启动以来发现了损坏的数据'],
    ['Its log names the files; what is damaged is in the directory quarantine. See whether the disk fails.', '其日志列出了相关文件；损坏的数据在 quarantine 目录中。请检查磁盘是否有故障。'],
  ],
  FlushFails: [
    ['{…} cannot write blocks', '{0} 无法写入数据块'],
    ['What is not flushed stays in the log and in memory. The log of the broker says why it fails.', '未落盘的数据保留在日志和内存中。broker 的日志说明失败原因。'],
  ],
  SegmentsFail: [
    ['The shared store does not take what {…} writes', '共享存储不接受 {0} 的写入'],
    ['Senders are told to send again. See whether the store is reached and has room.', '发送方会被要求重发。请检查存储是否可达、是否有空间。'],
  ],
  RemoteWriteBehind: [
    ['{…}B wait for {…}', '有 {0}B 数据等待发送到 {1}'],
    ['The other system is away or too slow. The log grows until it takes them.', '对方系统不可用或太慢。在其接收之前日志会持续增长。'],
  ],
  RuleEvaluationsMissed: [
    ['Rules of {…} are evaluated too seldom', '{0} 的规则求值过于稀疏'],
    ['Its queries take longer than its interval. Make them cheaper, or the interval longer.', '其查询耗时超过求值间隔。请降低查询开销，或加长间隔。'],
  ],
  RuleEvaluationsFail: [
    ['Rules of {…} cannot be evaluated', '{0} 的规则无法求值'],
    ['The page of rules shows the error of each.', '规则页显示每条规则的错误。'],
  ],
  NotificationsFail: [
    ['Notifications do not reach {…}', '通知无法送达 {0}'],
    ['See whether the receiver answers and its credentials are right.', '请检查接收者是否响应、凭据是否正确。'],
  ],
};

/** What a rule that comes along says, in Chinese; any other text stays as it is. */
export const inChinese = (alert: string, text: string): string => translated(BUILTIN_ZH[alert] ?? [], text);
