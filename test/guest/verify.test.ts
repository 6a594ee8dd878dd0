/** ext4 and XFS, frozen and live under load; btrfs is in a file of its own. */
import { testNothingIsLeft, useVerifyBench } from "../fixtures/verify-bench.ts";
import { testKind } from "../fixtures/verify-kind.ts";

const bench = useVerifyBench();
testKind(bench, { fsType: "ext4", devices: 1, tools: ["mkfs.ext4", "e2fsck"] });
testKind(bench, { fsType: "xfs", devices: 1, tools: ["mkfs.xfs", "xfs_repair"] });
testNothingIsLeft(bench);
