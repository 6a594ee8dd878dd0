/** Texts as kernel, hosts and admins write them. */
export const mountInfos = [
	`25 30 0:23 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
30 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
61 30 0:52 /@ /data rw shared:29 master:2 - btrfs /dev/vdb rw,ssd,subvolid=256,subvol=/@
62 61 0:52 /@/a\\040b /data/with\\040space\\011tab\\134back\\012line ro,nodev - btrfs /dev/mapper/x-y rw
70 30 7:3 / /mnt/\\303\\244 rw - xfs /dev/loop3 rw,attr2,logdev=/dev/vdc1,noquota
71 30 0:60 / /merged rw - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d
72 30 0:61 / /net rw propagate_from:3 unbindable - nfs4 host:/share rw,vers=4.2
73 30 0:62 / /fuse rw - fuse.sshfs me@host: rw,user_id=0
`,
];

export const procTexts = {
	swaps: [
		"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/vdb2                               partition\t1000\t0\t-2\n/swap\\040file file 1024 0 -3\n",
	],
	stat: [
		"1234 (a (b) c) S 1 1234 1234 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 0 0 18446744073709551615 0 0 0\n",
		"7 () )x) Z 2 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 55\n",
	],
	maps: [
		`55d0c0a00000-55d0c0a21000 r-xp 00001000 fe:01 1234567                    /usr/bin/node
7f0000000000-7f0000021000 rw-p 00000000 00:00 0
7ffd3c1c2000-7ffd3c1e3000 r--p 00000000 fe:01 42 /lib/x86_64-linux-gnu/a name.so (deleted)
7ffd3c1f4000-7ffd3c1f6000 r-xp 00000000 00:00 0                          [vdso]
`,
	],
	fileSystems: ["nodev\tsysfs\nnodev\ttmpfs\n\text4\nnodev\tzfs\n\txfs\nnodev\tbtrfs-x\n"],
	memInfo: ["MemTotal:        8000000 kB\nDirty:              1234 kB\nWriteback:            56 kB\n"],
	blockStat: [
		"    1234       12   345678     1000    98765      432  8765432    54321        0     1111    55321 0 0 0 0 0 0\n",
	],
	corosync: [
		"totem {\n  version: 2\n  token: 5000\n  token_coefficient: 100\n}\nnodelist {\n node {\n }\n node {\n }\n node {\n }\n}\n",
	],
};

export const workloadConfs = [
	`[workload]
# made by hand
workload_name = postgres
command_path = /usr/bin/psql
linux_user = postgres
credString = -U backup --port=5433 -d shop
role = slave
timeout = 90
ipc_folder =
dbnames = a,b
[logbackup]
x: 1
`,
	"[workload]\nworkload_name=oracle\nconfiguration_path=/etc/oratab\ncredString = / as sysbackup\nlinux_user: oracle\n",
	"[workload]\nworkload_name=mysql\ncredString=--defaults-file=/etc/mysql/backup.cnf\n  more\n  %%d\nrole=master\n",
];

export const pluginHosts = [
	"[pre_post]\ntimeoutInSeconds = 1800\nnumberOfPlugins = 1\npluginName0 = ScriptRunner\npluginConfigPath0 = /etc/azure/VMSnapshotScriptPluginConfig.json\n",
	"[pre_post]\nnumberofplugins=2\npluginname0=A\npluginconfigpath0=/a\npluginname1=B\npluginconfigpath1=/b\n",
];

export const scriptHeads = [
	"#!/bin/sh\necho ready\n",
	"#! /usr/bin/env -S node --x \nx",
	"echo no head\n",
	"#!\t/bin/bash -e\r\n",
	"\u007fELF\0\0",
];

export const logTexts = [
	`{"level":"info","password":"hunter22","url":"https://me:secret@host/p?sig=abc","a":["--token","x y"]}
Authorization: Bearer abcdefgh.ijklmnop
--password 'a b' PGPASSWORD=x api_key: "q\\"uote" eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIOK4
-----END EC PRIVATE KEY-----
//user:pw@share/path 0123456789abcdef0123456789abcdef0123456789abcdef AAAABBBBccccdddd1111222233334444AAAABBBBccccdddd
`,
];
