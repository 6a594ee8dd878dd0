import { constants, createDecipheriv, type KeyObject, privateDecrypt, type X509Certificate } from "node:crypto";
import type { EncryptedContentInfo, KeyTransRecipientInfo } from "@peculiar/asn1-cms";

const envelopedDataType = "1.2.840.113549.1.7.3";

/** RFC 3370, RFC 3565. */
const contentCiphers: Readonly<Record<string, { name: string; keyBytes: number }>> = {
	"1.2.840.113549.3.7": { name: "des-ede3-cbc", keyBytes: 24 },
	"2.16.840.1.101.3.4.1.2": { name: "aes-128-cbc", keyBytes: 16 },
	"2.16.840.1.101.3.4.1.22": { name: "aes-192-cbc", keyBytes: 24 },
	"2.16.840.1.101.3.4.1.42": { name: "aes-256-cbc", keyBytes: 32 },
};

const rsaPkcs1 = "1.2.840.113549.1.1.1";
const rsaOaep = "1.2.840.113549.1.1.7";
/** OAEP checks itself: the hash that fits is the one that was used, so its parameters need not be read. */
const oaepHashes = ["sha1", "sha256", "sha384", "sha512"] as const;

/**
 * Decrypts CMS EnvelopedData (RFC 5652, DER or BER) for the owner of an RSA key.
 * @param certificate tells which recipient is ours; without it all are tried.
 * @throws Error that says what does not fit and never quotes content
 */
export async function decryptEnvelopedData(
	bytes: Uint8Array,
	owner: { key: KeyObject; certificate?: X509Certificate | undefined },
): Promise<Buffer> {
	const { AsnConvert, OctetString } = await import("@peculiar/asn1-schema");
	const { ContentInfo, EnvelopedData } = await import("@peculiar/asn1-cms");
	const read = <T>(what: string, parse: () => T): T => {
		try {
			return parse();
		} catch {
			throw new Error(`${what} is no CMS`);
		}
	};
	const info = read("it", () => AsnConvert.parse(bytes, ContentInfo));
	if (info.contentType !== envelopedDataType) throw new Error(`is CMS of type ${info.contentType}, not EnvelopedData`);
	const enveloped = read("its EnvelopedData", () => AsnConvert.parse(info.content, EnvelopedData));
	const content = enveloped.encryptedContentInfo;
	const algorithm = content.contentEncryptionAlgorithm;
	const cipher = contentCiphers[algorithm.algorithm];
	if (cipher === undefined) throw new Error(`is encrypted by ${algorithm.algorithm}, which is not known`);
	const parameters = algorithm.parameters;
	const iv = read("its initial vector", () =>
		Buffer.from(AsnConvert.parse(parameters ?? new ArrayBuffer(0), OctetString).buffer),
	);
	const encrypted = encryptedBytes(content);

	const recipients = enveloped.recipientInfos.map((one) => one.ktri).filter((one) => one !== undefined);
	const ours = recipients.filter((one) => owner.certificate === undefined || isFor(one, owner.certificate));
	if (ours.length === 0) throw new Error("is encrypted for another certificate");
	for (const one of ours)
		for (const key of contentKeys(one, owner.key)) {
			if (key.length !== cipher.keyBytes) continue;
			try {
				const decipher = createDecipheriv(cipher.name, key, iv);
				return Buffer.concat([decipher.update(encrypted), decipher.final()]);
			} catch {
				// A wrong key or changed content; which of them can't be told.
			} finally {
				key.fill(0);
			}
		}
	throw new Error("cannot be decrypted: the key does not fit or the content was changed");
}

function encryptedBytes(content: EncryptedContentInfo): Buffer {
	const { value, constructedValue } = content.encryptedContent ?? {};
	if (value !== undefined) return Buffer.from(value.buffer);
	return Buffer.concat((constructedValue ?? []).map((part) => Buffer.from(part.buffer)));
}

function isFor(recipient: KeyTransRecipientInfo, certificate: X509Certificate): boolean {
	const serial = recipient.rid.issuerAndSerialNumber?.serialNumber;
	// By a subject key identifier the recipient is told by trying; issuers are compared by nobody who has the key.
	if (serial === undefined) return true;
	const hex = Buffer.from(serial).toString("hex").toUpperCase().replace(/^0+/, "");
	return hex === certificate.serialNumber.toUpperCase().replace(/^0+/, "");
}

/** What the key makes of it. PKCS #1 v1.5 answers a wrong key with random bytes; OAEP with an error. */
function* contentKeys(recipient: KeyTransRecipientInfo, key: KeyObject): Generator<Buffer> {
	const encrypted = Buffer.from(recipient.encryptedKey.buffer);
	const algorithm = recipient.keyEncryptionAlgorithm.algorithm;
	if (algorithm !== rsaPkcs1 && algorithm !== rsaOaep)
		throw new Error(`has its key encrypted by ${algorithm}, which is not known`);
	const paddings =
		algorithm === rsaPkcs1
			? [{ padding: constants.RSA_PKCS1_PADDING }]
			: oaepHashes.map((oaepHash) => ({ padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash }));
	for (const padding of paddings) {
		try {
			yield privateDecrypt({ key, ...padding }, encrypted);
		} catch {
			// The next padding, the next recipient.
		}
	}
}
