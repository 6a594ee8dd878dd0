import { constants, createCipheriv, publicEncrypt, randomBytes, type X509Certificate } from "node:crypto";

const oids = {
	data: "1.2.840.113549.1.7.1",
	envelopedData: "1.2.840.113549.1.7.3",
	rsaEncryption: "1.2.840.113549.1.1.1",
	aes256Cbc: "2.16.840.1.101.3.4.1.42",
};

/** The text as CMS EnvelopedData (RFC 5652) for the holder of the certificate's key: DER, in base64. */
export async function encryptSettings(text: string, certificate: X509Certificate): Promise<string> {
	const [cms, asn1, x509] = await Promise.all([
		import("@peculiar/asn1-cms"),
		import("@peculiar/asn1-schema"),
		import("@peculiar/asn1-x509"),
	]);
	const key = randomBytes(32);
	const iv = randomBytes(16);
	const cipher = createCipheriv("aes-256-cbc", key, iv);
	const content = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
	const forKey = publicEncrypt({ key: certificate.publicKey, padding: constants.RSA_PKCS1_PADDING }, key);
	const { tbsCertificate } = asn1.AsnConvert.parse(certificate.raw, x509.Certificate);
	const recipient = new cms.KeyTransRecipientInfo({
		version: cms.CMSVersion.v0,
		rid: new cms.RecipientIdentifier({
			issuerAndSerialNumber: new cms.IssuerAndSerialNumber({
				issuer: tbsCertificate.issuer,
				serialNumber: tbsCertificate.serialNumber,
			}),
		}),
		keyEncryptionAlgorithm: new x509.AlgorithmIdentifier({ algorithm: oids.rsaEncryption, parameters: null }),
		encryptedKey: new asn1.OctetString(forKey),
	});
	const enveloped = new cms.EnvelopedData({
		version: cms.CMSVersion.v0,
		recipientInfos: new cms.RecipientInfos([new cms.RecipientInfo({ ktri: recipient })]),
		encryptedContentInfo: new cms.EncryptedContentInfo({
			contentType: oids.data,
			contentEncryptionAlgorithm: new x509.AlgorithmIdentifier({
				algorithm: oids.aes256Cbc,
				parameters: asn1.AsnConvert.serialize(new asn1.OctetString(iv)),
			}),
			encryptedContent: new cms.EncryptedContent({ value: new asn1.OctetString(content) }),
		}),
	});
	const info = new cms.ContentInfo({ contentType: oids.envelopedData, content: asn1.AsnConvert.serialize(enveloped) });
	return Buffer.from(asn1.AsnConvert.serialize(info)).toString("base64");
}
