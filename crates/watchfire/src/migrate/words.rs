//! What a move says, in both languages.

use std::io::Error;
use std::path::Path;

use broker::Signal;

use crate::language::Language;

/// Says it in one of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words(pub(super) Language);

/// Days of milliseconds, rounded down to a tenth.
fn days(ms: i64) -> String {
    let tenths = ms / 8_640_000;
    match tenths % 10 {
        0 => format!("{} d", tenths / 10),
        rest => format!("{}.{rest} d", tenths / 10),
    }
}

/// Blocks that the cluster keeps as they are for no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aged {
    pub(super) signal: Signal,
    pub(super) blocks: usize,
    pub(super) rows: u64,
    /// How long the cluster keeps them, milliseconds.
    pub(super) kept_ms: i64,
}

impl Words {
    fn of(self, en: impl Into<String>, zh: impl Into<String>) -> String {
        match self.0 {
            Language::En => en.into(),
            Language::Zh => zh.into(),
        }
    }

    fn fixed(self, en: &'static str, zh: &'static str) -> &'static str {
        match self.0 {
            Language::En => en,
            Language::Zh => zh,
        }
    }

    pub(super) fn stopping(self) -> &'static str {
        self.fixed(
            "stops when the part that is under way is done; once more to stop at once",
            "当前部分完成后停止；再按一次立即停止",
        )
    }

    pub(super) fn copying(self) -> &'static str {
        self.fixed(
            "writing what is in memory into blocks, and linking them",
            "正在把内存中的数据写成块并建立链接",
        )
    }

    pub(super) fn cleaning(self) -> &'static str {
        self.fixed("writing blocks anew without what is deleted", "正在重写块，去掉已删除的数据")
    }

    pub(super) fn bytes(self) -> &'static str {
        self.fixed("bytes", "字节")
    }

    pub(super) fn keys(self) -> &'static str {
        self.fixed("keys", "键")
    }

    pub(super) fn not_one_machine(self, from: &Path) -> String {
        let from = from.display();
        self.of(
            format!(
                "{from} is no data directory of one machine: give the one that `watchfire --data` was \
                 started with"
            ),
            format!("{from} 不是单机的数据目录：请给出 `watchfire --data` 所用的目录"),
        )
    }

    pub(super) fn another_is_at_work(self, from: &Path) -> String {
        let from = from.display();
        self.of(
            format!("another `watchfire migrate` is at work on {from}: wait until it has ended"),
            format!("另一个 `watchfire migrate` 正在处理 {from}：请等它结束"),
        )
    }

    pub(super) fn not_the_owner(self, from: &Path, owner: u32) -> String {
        let from = from.display();
        self.of(
            format!(
                "no server uses {from}, and it belongs to the user {owner}: what would be written here could \
                 not be read by its server. Start the server and run this beside it, or run it as that user"
            ),
            format!(
                "没有服务器在使用 {from}，它属于用户 {owner}：在此写入的文件其服务器将无法读取。请启动服务器后再\
                 运行，或以该用户运行"
            ),
        )
    }

    pub(super) fn left_behind(self, path: &Path) -> String {
        let path = path.display();
        self.of(
            format!("the copy {path} of a move that broke off is removed"),
            format!("已删除中断的迁移留下的副本 {path}"),
        )
    }

    pub(super) fn copy_stays(self, path: &Path, error: &Error) -> String {
        let path = path.display();
        self.of(
            format!("the copy {path} stays: {error}; remove it"),
            format!("副本 {path} 未能删除：{error}；请手动删除"),
        )
    }

    pub(super) fn deleted_meanwhile(self) -> String {
        self.of(
            "something was deleted each time while the copy was made: wait until deleting is over, and run \
             this again",
            "每次生成副本时都有数据被删除：请等删除结束后再运行",
        )
    }

    pub(super) fn no_cluster(self, url: &str) -> String {
        self.of(
            format!(
                "there is no cluster in {url}: found it first with `watchfire broker --store`, in the same \
                 prefix"
            ),
            format!("{url} 中没有集群：请先用 `watchfire broker --store` 在同一前缀下建立集群"),
        )
    }

    pub(super) fn other_cluster(self, url: &str, there: &str, broker: &str, asked: &str) -> String {
        self.of(
            format!(
                "--to {url} is the store of cluster {there}, and --url {broker} is a broker of cluster \
                 {asked}: nothing was written; give the store and a broker of one cluster"
            ),
            format!(
                "--to {url} 是集群 {there} 的存储，而 --url {broker} 是集群 {asked} 的 broker：未写入任何数据；\
                 请给出同一个集群的存储和 broker"
            ),
        )
    }

    pub(super) fn object_is_there(self, key: &str, url: &str) -> String {
        self.of(
            format!(
                "{key} is in {url} already, although the cluster has just given that id away for the first \
                 time: nothing was written over it. Is --to the store of this cluster, in the same prefix?"
            ),
            format!(
                "{url} 中已有 {key}，而集群刚刚首次分配该编号：没有覆盖它。--to 是否是该集群的存储且前缀相同？"
            ),
        )
    }

    pub(super) fn amount(
        self,
        blocks: usize,
        (samples, lines): (&str, &str),
        bytes: &str,
        keys: usize,
        url: &str,
    ) -> String {
        self.of(
            format!(
                "{blocks} blocks with {samples} samples and {lines} lines, {bytes} bytes, and {keys} keys, \
                 to {url}"
            ),
            format!(
                "{blocks} 个块，{samples} 个样本，{lines} 行日志，{bytes} 字节，另有 {keys} 个键，迁移到 {url}"
            ),
        )
    }

    /// What the rows of a signal are called.
    fn rows(self, signal: Signal, rows: u64) -> String {
        match signal {
            Signal::Metrics => self.of(format!("{rows} samples"), format!("{rows} 个样本")),
            Signal::Logs => self.of(format!("{rows} lines"), format!("{rows} 行日志")),
        }
    }

    pub(super) fn there_already(self, blocks: usize) -> String {
        self.of(
            format!("{blocks} more blocks are there already"),
            format!("另有 {blocks} 个块已在集群中"),
        )
    }

    pub(super) fn quarantined(self, blocks: usize) -> String {
        self.of(
            format!("{blocks} blocks are damaged and in quarantine: they do not move"),
            format!("{blocks} 个块已损坏并被隔离：不会迁移"),
        )
    }

    pub(super) fn nameless(self, keys: usize) -> String {
        self.of(
            format!(
                "{keys} keys with types and help texts are of tenants whose names were lost: they do not move"
            ),
            format!("{keys} 个类型和说明的键属于名称已丢失的租户：不会迁移"),
        )
    }

    pub(super) fn not_cleaned(self) -> String {
        self.of(
            "some of it is deleted and does not move: blocks are written anew without it before they do",
            "其中部分数据已删除，不会迁移：迁移前会重写相关的块",
        )
    }

    pub(super) fn takes_no_lines(self) -> &'static str {
        self.fixed(
            "there are lines of logs to be moved, and the broker of the cluster that answers knows none: \
             upgrade all brokers of the cluster, then run this again; nothing was moved",
            "有日志行需要迁移，但应答的集群 broker 不支持日志：请先升级集群的所有 broker，再重新运行；未迁移任何数据",
        )
    }

    pub(super) fn expired(self, Aged { signal, blocks, rows, kept_ms }: Aged) -> String {
        let (kept, rows) = (days(kept_ms), self.rows(signal, rows));
        let of_them = match signal {
            Signal::Metrics => "anything",
            Signal::Logs => "logs",
        };
        self.of(
            format!(
                "{blocks} blocks with {rows} are older than the cluster keeps {of_them} ({kept}): \
                 it would remove them at once, so they stay behind"
            ),
            format!(
                "{blocks} 个块（{rows}）早于集群的保留期（{kept}）：集群会立即删除它们，因此不迁移"
            ),
        )
    }

    pub(super) fn thinned(self, Aged { signal, blocks, rows, kept_ms }: Aged) -> String {
        let (kept, rows) = (days(kept_ms), self.rows(signal, rows));
        self.of(
            format!(
                "{blocks} blocks with {rows} are older than the cluster keeps samples ({kept}): \
                 rollups are all that it leaves of them"
            ),
            format!(
                "{blocks} 个块（{rows}）早于集群保留原始样本的时间（{kept}）：集群只保留它们的汇总"
            ),
        )
    }

    pub(super) fn retention_first(self) -> String {
        self.of(
            "nothing was moved: raise storage.retention, storage.rollups and storage.logs_retention of all brokers to \
             what is to be kept, or accept the loss with --allow-expired",
            "未迁移任何数据：请先把所有 broker 的 storage.retention、storage.rollups 和 storage.logs_retention 提高到所\
             需的时长，或用 --allow-expired 接受损失",
        )
    }

    pub(super) fn deleted_since(self, why: &str, deletes: &[&str]) -> String {
        let mut text = self.of(
            format!(
                "{why}. Nothing was moved. Delete the same in the cluster, when this has run once more with \
                 --deleted-again"
            ),
            format!(
                "{why}。未迁移任何数据。请先用 --deleted-again 再次运行，然后在集群中删除同样的数据"
            ),
        );
        if !deletes.is_empty() {
            text += &self.of("; at the machine these were made:", "；该单机上执行过的删除：");
            deletes.iter().for_each(|delete| text += &format!("\n  {delete}"));
        }
        text
    }

    pub(super) fn dry_run(self) -> String {
        self.of("--dry-run: nothing moves", "--dry-run：不迁移任何数据")
    }

    pub(super) fn block_failed(self, id: &str) -> String {
        self.of(
            format!("move block {id}; what moved before counts, run this again"),
            format!("迁移块 {id} 时出错；之前迁移的已生效，请再次运行"),
        )
    }

    pub(super) fn key_failed(self, key: &str) -> String {
        self.of(format!("move the key {key}"), format!("迁移键 {key} 时出错"))
    }

    pub(super) fn too_slow(self, minutes: u64) -> String {
        self.of(
            format!(
                "it took {minutes} minutes to write, and the cluster keeps an id for an hour: run this where \
                 the way to the store is faster"
            ),
            format!("写入用了 {minutes} 分钟，而集群只为一个编号保留一小时：请在到存储的网络更快的地方运行"),
        )
    }

    pub(super) fn moved(
        self,
        seconds: f64,
        (samples, lines): (&str, &str),
        keys: u64,
        is_last: bool,
    ) -> String {
        let mut text = self.of(
            format!(
                "moved in {seconds:.1} s: {samples} samples and {lines} lines can be asked for in the \
                 cluster, {keys} keys are new there"
            ),
            format!(
                "迁移完成，用时 {seconds:.1} s：{samples} 个样本和 {lines} 行日志可在集群中查询，新增 {keys} 个键"
            ),
        );
        text += &match is_last {
            true => self.of(
                ". That was the last run: nothing more of this machine comes",
                "。这是最后一次运行：该单机不再有数据迁入",
            ),
            false => self.of(
                ". What has come to the one machine since is not among them: send writes to the cluster, \
                 then run this once more, with --last",
                "。之后写入单机的数据不在其中：请把写入改到集群，然后用 --last 再运行一次",
            ),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_rounded_down() {
        assert_eq!(days(400 * 86_400_000), "400 d");
        assert_eq!(days(36 * 3_600_000), "1.5 d");
    }
}
